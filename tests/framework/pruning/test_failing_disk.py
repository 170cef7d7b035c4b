"""A run whose cache loses its disk: slower, and the same result."""

from __future__ import annotations

import shutil
from pathlib import Path

import attrs
import pytest

from billhook import Budget, CacheBudget, Pruner, hookimpl
from billhook.testing import tiny_model, tiny_tokens


class TakesTheDisk:
    """Takes the cache's folder away when ``stage`` is first heard of."""

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder, self.stage = folder, stage

    @hookimpl
    def billhook_on_progress(self, stage: str) -> None:
        if stage == self.stage:
            shutil.rmtree(self.folder, ignore_errors=True)


@pytest.mark.parametrize(
    ("recipe", "stage"), [("replaceme", "selecting"), ("replaceme", "fitting"), ("blockpruner", "scoring")]
)
def test_a_disk_tier_that_fails_costs_time_only(recipe: str, stage: str, tmp_path: Path, logged: list[str]) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    kept = Pruner.following(recipe)
    cache = CacheBudget(host=0, disk=2**24, folder=folder)
    failing = attrs.evolve(kept, cache=cache, hooks=[TakesTheDisk(folder, stage)])
    model, tokens = tiny_model("llama"), tiny_tokens()
    found, expected = (p.prune(model, calibration=tokens, budget=Budget(parameters=0.2)) for p in (failing, kept))
    pairs = list(zip(found.model.parameters(), expected.model.parameters(), strict=True))
    assert pairs
    assert all(one.equal(other) for one, other in pairs)
    assert sum("The disk tier of the activation cache takes nothing more" in text for text in logged) == 1
