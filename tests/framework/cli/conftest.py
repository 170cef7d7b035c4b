"""A small checkpoint and text on disk, and the command line called as the console script calls it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from tests.framework.plugins.plugin_files import install

from billhook.cli import main
from billhook.plugins.registry import default_registry
from billhook.testing import save_tiny_checkpoint

LAYERS = 6

TEXT = "the quick brown fox jumps over the lazy dog, and runs away from 12 bees. " * 40


@attrs.frozen(kw_only=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """Stdout as JSON; fails unless it is exactly one value."""
        return json.loads(self.out)


Run = Callable[..., Outcome]
Installer = Callable[..., None]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with six layers and a tokenizer."""
    return save_tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny", num_hidden_layers=LAYERS)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text of about 3000 characters, which the tiny tokenizer makes as many tokens of."""
    file = tmp_path_factory.mktemp("texts") / "text.txt"
    file.write_text(TEXT)
    return file


@pytest.fixture
def data(text: Path) -> tuple[str, ...]:
    """Options for calibration data that take no time."""
    return ("--calibration", str(text), "--samples", "4", "--seqlen", "16")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("prune", folder, …)``: the command line in this process, stdout and stderr apart."""

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Installs a distribution for as long as the test lasts: ``installed("dist", plugin="source code")``."""
    site = tmp_path_factory.mktemp("site")
    monkeypatch.syspath_prepend(site)

    def add(distribution: str, **modules: str) -> None:
        install(site, distribution, modules, version="3.2")
        default_registry.cache_clear()

    yield add
    monkeypatch.undo()
    default_registry.cache_clear()
