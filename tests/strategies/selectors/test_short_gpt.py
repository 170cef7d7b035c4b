"""ShortGpt: block influence, written out."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.strategies.observing import own_streams
from tests.strategies.selecting import TOKENS, select

from billhook import Budget, DropLayers, ModelView, default_registry
from billhook.errors import InvalidConfig
from billhook.testing import tiny_view
from billhook_strategies.selectors.short_gpt import ShortGpt

LAYERS = 7


def influences(view: ModelView) -> list[float]:
    """1 − the mean over tokens of ⟨x, y⟩ / ‖x‖‖y‖, x entering a layer and y leaving it."""
    streams = own_streams(view, TOKENS)
    found = []
    for entering, leaving in itertools.pairwise(streams):
        cosines = [
            float(x @ y / (x.square().sum().sqrt() * y.square().sum().sqrt()))
            for x, y in zip(entering, leaving, strict=True)
        ]
        found.append(1 - sum(cosines) / len(cosines))
    return found


def dropped(selector: ShortGpt, layers: int, view: ModelView) -> list[int]:
    cuts = select(selector, Budget(layers=layers), view).cuts
    return [number for cut in cuts if isinstance(cut, DropLayers) for number in cut.layers]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3_text"])
@given(seed=st.integers(0, 2**20), layers=st.integers(1, LAYERS - 1), first=st.integers(0, 2), last=st.integers(0, 2))
@settings(max_examples=7)
def test_the_layers_of_lowest_influence_go(family: str, seed: int, layers: int, first: int, last: int) -> None:
    view = tiny_view(family, num_hidden_layers=LAYERS, seed=seed)
    layers = min(layers, LAYERS - first - last)
    influence = influences(view)
    free = range(first, LAYERS - last)
    wanted = sorted(sorted(free, key=lambda number: influence[number])[:layers])
    assert dropped(ShortGpt(protect_first=first, protect_last=last), layers, view) == wanted


def test_neighbours_become_one_cut() -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    assert select(ShortGpt(protect_first=1, protect_last=2), Budget(layers=4), view).cuts == [DropLayers(1, 5)]


def test_ties_go_to_the_lower_layer() -> None:
    view = tiny_view(num_hidden_layers=LAYERS)
    with torch.no_grad():
        for number in (2, 3, 4):  # in a row: one and the same stream, whose distances round alike
            for parameter in (*view.writer(number, "mlp").parameters(), *view.writer(number, "attention").parameters()):
                parameter.zero_()
    assert select(ShortGpt(), Budget(layers=2), view).cuts == [DropLayers(2, 4)]


def test_the_name_stands_for_the_papers_settings_which_protect_nothing() -> None:
    assert default_registry().create("selector", "short-gpt") == ShortGpt(protect_first=0, protect_last=0)


def test_it_searches_by_no_objective_and_yields_layers() -> None:
    assert not ShortGpt().needs_objective()
    assert ShortGpt().kinds() == (DropLayers,)


def test_it_is_refused_after_other_cuts() -> None:
    with pytest.raises(InvalidConfig, match="measures the dense model, so in a sequence it must come first"):
        select(ShortGpt(), Budget(layers=2), tiny_view(), done=[DropLayers(1, 2)])


def test_more_layers_than_are_free_are_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"4 layers cannot go: 3 are not protected \(first 3, last 1\)"):
        select(ShortGpt(protect_first=3, protect_last=1), Budget(layers=4), tiny_view(num_hidden_layers=LAYERS))


@pytest.mark.parametrize("options", [{"protect_first": -1}, {"protect_last": -1}])
def test_negative_protections_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match="The protected layers of ShortGpt cannot be fewer than 0"):
        ShortGpt(**options)
