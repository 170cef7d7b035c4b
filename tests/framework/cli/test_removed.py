"""What many cuts come to, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from billhook import Cut, DropBranch, DropLayers, KeepChannels, KeepHeads, ModelView
from billhook.cli.removed import Removed
from billhook.cuts.sites import RepairSite
from billhook.model.layer_version import LayerVersion


def channels(layer: int, count: int) -> KeepChannels:
    return KeepChannels(layer, tuple(range(count)))


def said(*cuts: Cut) -> dict[str, str]:
    removed = Removed(cuts)
    return {"layers": removed.layers, **dict(removed.facts())}


def test_whole_layers_are_named_in_layer_order() -> None:
    assert said(DropLayers(4, 6), DropLayers(1, 2), DropLayers(6, 7)) == {"layers": "layers 1, 4:7"}


def test_branches_are_gathered_by_kind_and_in_layer_order() -> None:
    cuts = [DropBranch(7, "mlp"), *(DropBranch(number, "attention") for number in (9, 3, 4, 2))]
    assert said(*cuts) == {"layers": "", "without attention": "layers 2:5, 9", "without mlp": "layer 7"}


def test_a_layer_that_lost_both_branches_is_gone_as_a_whole() -> None:
    cuts = (DropBranch(3, "mlp"), DropBranch(5, "attention"), DropBranch(3, "attention"))
    assert said(*cuts) == {"layers": "layer 3", "without attention": "layer 5"}


def test_of_many_narrowings_the_last_one_tells_the_width() -> None:
    cuts = (channels(1, 20), channels(2, 20), channels(1, 16), channels(4, 16), channels(5, 16), channels(1, 12))
    assert said(*cuts) == {"layers": "", "mlp width": "12 channels in layer 1; 16 in layers 4:6; 20 in layer 2"}


def test_heads_are_counted_by_key_value_groups() -> None:
    assert said(KeepHeads(0, (1, 3)))["attention width"] == "2 key-value groups in layer 0"


@pytest.mark.parametrize("later", [DropBranch(1, "mlp"), DropLayers(1, 2)], ids=str)
def test_what_went_later_has_no_width_any_more(later: Cut) -> None:
    assert "mlp width" not in said(channels(1, 8), later)


def test_a_layer_that_went_later_is_not_among_those_without_a_branch() -> None:
    assert said(DropBranch(1, "mlp"), DropLayers(1, 2)) == {"layers": "layer 1"}


class EverySecondRow(Cut):
    """A kind of cut that a stranger might add."""

    kind: ClassVar[str] = "every-second-row"

    def check(self, view: ModelView) -> None:
        """Always possible."""

    def repair_site(self, view: ModelView) -> RepairSite | None:
        """None."""
        return None

    def changes(self, view: ModelView) -> Mapping[int, LayerVersion | None]:
        """Nothing."""
        return {}

    def __str__(self) -> str:
        return "every second row"


def test_cuts_of_unknown_kinds_are_named_in_their_own_words() -> None:
    assert said(EverySecondRow(), DropLayers(1, 2)) == {"layers": "layer 1", "without": "every second row"}
