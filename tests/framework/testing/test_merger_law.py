"""The suite for mergers catches each way of breaking the contract: here is one merger for each."""

from __future__ import annotations

import attrs
import pytest
import torch

from billhook import Cut, LinearMap, Merger, ModelView, RepairSite, default_registry
from billhook.errors import CannotMerge, InvalidCut
from billhook.model.inserted import insert_after
from billhook.model.writer import bias_of, replace_weight, weight_rows
from billhook.testing import check_merger
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.mergers.refit import Refit

SOME = [a for a in default_registry().adapters() if a.name in ("llama", "granite", "mistral", "gemma2")]


@attrs.frozen
class Fine(Merger):
    """Keeps every promise, and is not registered."""

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        Fold().check_site(view, site)

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        Fold().put(view, site, linear_map)


class Forgetful(Fine):
    """Folds the weight and leaves the writer's bias as it was."""

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        writer = view.writer(site.layer, site.branch)
        old = bias_of(writer)
        super().put(view, site, linear_map)
        if old is not None:
            replace_weight(writer, weight_rows(writer), old)


class Unscaled(Fine):
    """Does not know of residual multipliers."""

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        """Everything can be served."""

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        linear_map.check_width(view.d_model)
        layer = view.layer(site.layer)
        insert_after(layer, view.adapter.output(layer, site.branch), linear_map)


class InPlace(Fine):
    """Writes into weights that the dense model shares."""

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        shared = weight_rows(view.writer(site.layer, site.branch))
        super().put(view, site, linear_map)
        shared.copy_(shared @ linear_map.weight.to(shared))


class Hasty(Fine):
    """Changes the model before it looks whether it can."""

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        view.drop_layers([view.numbers[-1]])
        super().put(view, site, linear_map)


class Careless(Fine):
    """Lets impossible cuts go wrong by themselves."""

    def check(self, view: ModelView, cut: Cut) -> None:
        try:
            super().check(view, cut)
        except InvalidCut as error:
            raise IndexError("no such layer") from error


class Dicey(Fine):
    """Uses the global random numbers."""

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        super().put(view, site, linear_map)
        torch.rand(1)


class Strict(Fine):
    """Refuses in check() what it would accept in merge()."""

    def check(self, view: ModelView, cut: Cut) -> None:
        cut.check(view)
        raise CannotMerge("not today")


class Useless(Fine):
    """Refuses everything."""

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        raise CannotMerge("never")


BROKEN: dict[type[Merger], str] = {
    Forgetful: "must compute what the linearised one does: off by",
    Unscaled: "after merging layers 1:2 a granite model must compute what the linearised one does",
    InPlace: "must leave the original alone: weights .*down_proj.weight.* have changed|off by",
    Hasty: r"a refusal must change nothing: layers \(0, 1, 2, 3, 4, 5\) became",
    Careless: "must be refused with InvalidCut; IndexError was raised",
    Dicey: "used the global random numbers",
    Strict: r"check\(\) refuses what merge\(\) accepts",
    Useless: "refuses every family of",
}


@pytest.mark.parametrize("merger", [Fine(), Insert(), Refit()], ids=repr)
def test_a_conforming_merger_passes(merger: Merger) -> None:
    check_merger(merger, adapters=SOME)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_merger_is_caught_and_the_law_is_named(broken: type[Merger]) -> None:
    with pytest.raises(AssertionError, match=rf"^{broken.__name__}\(\) breaks its contract: .*({BROKEN[broken]})"):
        check_merger(broken(), adapters=SOME)
