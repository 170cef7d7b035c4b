"""The two walks of the design page are those of the code: the default recipe calls these functions in order."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import billhook
from billhook import Budget, Calibration, Pruner, PruneResult
from billhook.testing import tiny_model, tiny_tokenizer

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/design.md").read_text(encoding="utf-8").partition("\n## 9. Two walks\n")[2]
STEP = re.compile(r"^\d+\. `([\w.]+)` \(`([\w/]+\.py)`\)", re.MULTILINE)
FOLDERS = (ROOT / "framework/billhook", ROOT / "strategies/billhook_strategies")

Step = tuple[str, str]
"""A function as the page has it: qualified name, and file from its package."""


def walk(title: str) -> list[Step]:
    """The steps below a heading of the page."""
    text = PAGE.partition(f"\n### {title}\n")[2].partition("\n### ")[0]
    return STEP.findall(text)


def called_in(run: Callable[[], Any]) -> list[Step]:
    """Every function of the framework and the strategies that ``run`` calls, in the order of the calls."""
    steps: list[Step] = []
    folders = [f"{folder}/" for folder in FOLDERS]

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        folder = next((f for f in folders if code.co_filename.startswith(f)), None) if event == "call" else None
        if folder is not None:
            steps.append((code.co_qualname, code.co_filename.removeprefix(folder)))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return steps


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """Of pruning a tiny model by the default recipe on a text file, and saving the result."""
    folder = tmp_path_factory.mktemp("walk")
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    data = Calibration(source=str(folder / "text.txt"), samples=12, seqlen=16)
    model, tokenizer = tiny_model(num_hidden_layers=4), tiny_tokenizer()

    def run() -> None:
        result: PruneResult = Pruner().prune(model, tokenizer, calibration=data, budget=Budget(parameters=0.1))
        result.save(folder / "saved")

    return called_in(run)


@pytest.mark.parametrize(
    "title", ["A text file becomes a repaired weight", "A cut goes from the selector to the checkpoint"]
)
def test_a_walk_of_the_design_is_one_of_the_code(title: str, steps: list[Step]) -> None:
    expected = walk(title)
    assert len(expected) > 20
    rest = iter(steps)
    for number, step in enumerate(expected, 1):
        assert step in steps, f"step {number} of the walk, {step}, is never called"
        assert step in rest, f"step {number} of the walk, {step}, is not called after step {number - 1}"


def test_the_walks_name_files_that_are_there() -> None:
    for title in re.findall(r"^### (.+)$", PAGE, re.MULTILINE):
        for _, file in walk(title):
            assert any((folder / file).is_file() for folder in FOLDERS), file
    assert Path(billhook.__file__).is_relative_to(ROOT)
