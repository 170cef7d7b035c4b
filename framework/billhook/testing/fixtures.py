"""Fixtures for pytest: in your ``conftest.py``, ``pytest_plugins = ["billhook.testing.fixtures"]``.

``tiny_llama`` and ``tiny_pruning_state`` are fresh in every test; ``learnt`` and ``learnt_text`` are trained and
written once a session, and every test gets a copy of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from transformers import PreTrainedModel

from billhook.data.tokens import Tokens
from billhook.roles.state import PruningState
from billhook.testing.samples.learnt import learnt_model, learnt_tokens
from billhook.testing.samples.models import tiny_model
from billhook.testing.samples.states import tiny_state

try:
    import pytest
except ImportError as error:
    raise ImportError("The fixtures of billhook.testing are for pytest: pip install 'billhook[test]'") from error

__all__ = ["learnt", "learnt_text", "tiny_llama", "tiny_pruning_state"]


@pytest.fixture
def tiny_llama() -> PreTrainedModel:
    """A random Llama of 4 layers and some thousand parameters: :func:`tiny_model`."""
    return tiny_model("llama")


@pytest.fixture
def tiny_pruning_state() -> Iterator[PruningState]:
    """What a selector works on, with perplexity as the objective: :func:`tiny_state`."""
    state = tiny_state(objective="billhook:perplexity")
    yield state
    state.close()


@pytest.fixture
def learnt() -> PreTrainedModel:
    """A small model that has learnt something; every test has its own copy: :func:`learnt_model`."""
    return learnt_model()


@pytest.fixture(scope="session")
def learnt_text() -> Tokens:
    """Text in its language: :func:`learnt_tokens`."""
    return learnt_tokens()
