"""What all tests share: reproducible hypothesis runs, one thread, no network, a quiet log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before transformers is imported, which reads it then

import pytest
import torch
from hypothesis import HealthCheck, settings
from loguru import logger

# Deadlines are off: the first example of a test builds its model, which takes longer than all others together.
settings.register_profile(
    "ci", derandomize=True, max_examples=20, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

torch.set_num_threads(1)  # tiny matrices: threads cost more than they bring, and sums keep one order
logger.remove()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The texts of log messages of level WARNING and above, as they come."""
    messages: list[str] = []
    sink = logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    logger.remove(sink)


class _Deprecations(logging.Handler):
    """Notes what libraries log of names that are going away; warnings proper are errors anyway."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "deprecated" in record.getMessage():
            self.texts.append(record.getMessage())


@pytest.fixture(autouse=True)
def nothing_deprecated() -> Iterator[None]:
    """Fails a test in which transformers logs that it was called by a deprecated name: it often does not warn."""
    heard = _Deprecations()
    log = logging.getLogger("transformers")
    log.addHandler(heard)
    yield
    log.removeHandler(heard)
    assert heard.texts == []
