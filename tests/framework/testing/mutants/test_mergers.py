"""Wrong mergers, each caught by the law that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import attrs
import pytest
import torch
from tests.families import every
from tests.framework.testing.mutants.mutant import Mutant, require_caught, sampled
from torch import Tensor

from billhook import (
    LinearMap,
    Merger,
    ModelView,
    RepairSite,
    bias_of,
    insert_after,
    replace_weight,
    weight_rows,
)
from billhook.errors import CannotMerge, InvalidCut
from billhook.testing import check_merger
from billhook_strategies.mergers.fold import Fold
from billhook_strategies.mergers.insert import Insert
from billhook_strategies.mergers.into_writer import has_bias
from billhook_strategies.mergers.refit import Refit

ADAPTERS = {adapter.name: adapter for adapter in every()}
SOME = {"adapters": [ADAPTERS[name] for name in ("llama", "granite", "gpt2")]}
GRANITE = {"adapters": [ADAPTERS["granite"]]}
NORMS = {"adapters": [ADAPTERS["gemma2"], ADAPTERS["llama"]]}

Put = Callable[[ModelView, RepairSite, LinearMap], object]


FOLD = Fold()


def made(
    put: Put = FOLD.put,
    check_site: Callable[[ModelView, RepairSite], object] = FOLD.check_site,
    regressor: str = "output",
    **members: Any,
) -> Callable[[], Merger]:
    """A merger with these methods; what it is made of breaks no law."""
    methods = {
        "regressor": regressor,
        "takes_bias": lambda self, view, site: put is not FOLD.put or has_bias(view, site),
        "check_site": lambda self, view, site: check_site(view, site),
        "put": lambda self, view, site, linear_map: put(view, site, linear_map),
        **members,
    }
    return attrs.frozen(type("Wrong", (Merger,), methods))


def mapped(change: Callable[[torch.Tensor], torch.Tensor]) -> Put:
    def put(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        linear_map.check_width(view.d_model)
        Fold().put(view, site, attrs.evolve(linear_map, weight=change(linear_map.weight)))

    return put


def donor_bias_kept(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    writer = view.writer(site.layer, site.branch)
    old = bias_of(writer)
    Fold().put(view, site, linear_map)
    if old is not None:
        replace_weight(writer, weight_rows(writer), old)


def map_bias_forgotten(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    Fold().put(view, site, LinearMap(linear_map.weight))


def map_bias_unscaled(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    scale = view.adapter.scale(view.layer(site.layer), site.branch)
    bias = None if linear_map.bias is None else linear_map.bias * scale
    Fold().put(view, site, LinearMap(linear_map.weight, bias))


def unscaled_insert(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    linear_map.check_width(view.d_model)
    layer = view.layer(site.layer)
    insert_after(layer, view.adapter.output(layer, site.branch), linear_map)


def before_the_norm(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    linear_map.check_width(view.d_model)
    layer = view.layer(site.layer)
    path = view.adapter.layout(site.branch).writer
    insert_after(layer, path, linear_map, view.adapter.scale(layer, site.branch))


def in_place(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    Fold().check_site(view, site)
    if linear_map.bias is not None:
        raise CannotMerge("no biases")
    linear_map.check_width(view.d_model)
    writer = view.writer(site.layer, site.branch)
    rows, bias = weight_rows(writer), bias_of(writer)
    rows.copy_((rows.double() @ linear_map.weight.double()).to(rows))
    if bias is not None:
        bias.copy_((bias.double() @ linear_map.weight.double()).to(bias))


def bias_in_place(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    old = bias_of(view.writer(site.layer, site.branch))
    Fold().put(view, site, linear_map)
    if old is not None:
        old.zero_()


def only(branch: str, otherwise: Put) -> Put:
    """Right for donors of one branch."""
    return lambda view, site, t: (Fold().put if site.branch == branch else otherwise)(view, site, t)


def nothing(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    linear_map.check_width(view.d_model)


def into_the_mlp(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    Fold().put(view, attrs.evolve(site, branch="mlp"), linear_map)


def is_narrow(view: ModelView, site: RepairSite) -> bool:
    """Whether the donor has lost some of its units."""
    units = view.units(site.layer, site.branch)
    return bool(units) and len(units) < len(view.units(0, site.branch))


def unless_narrow(otherwise: Put) -> Put:
    return lambda view, site, t: (otherwise if is_narrow(view, site) else Fold().put)(view, site, t)


def next_layer(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    Fold().put(view, attrs.evolve(site, layer=view.numbers[0]), linear_map)


def drops_a_layer_first(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    view.drop_layers([view.numbers[-1]])
    Fold().put(view, site, linear_map)


def and_then(change: Callable[[ModelView, RepairSite], object]) -> Put:
    def put(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        Fold().put(view, site, linear_map)
        change(view, site)

    return put


def hooked(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    """Maps by a forward hook."""
    Insert().check_site(view, site)
    linear_map.check_width(view.d_model)
    layer = view.layer(site.layer)
    scale = view.adapter.scale(layer, site.branch)
    module = layer.get_submodule(view.adapter.output(layer, site.branch))
    module.register_forward_hook(lambda m, a, out: Tensor.to(linear_map(Tensor.double(out) * scale) / scale, out.dtype))


def float64(view: ModelView, site: RepairSite) -> None:
    view.writer(site.layer, site.branch).double()


def late(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    if linear_map.bias is None:
        raise CannotMerge("not today")
    Fold().put(view, site, linear_map)


def late_for_attentions(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    if site.branch == "attention":
        raise CannotMerge("attentions are beyond me")
    Fold().put(view, site, linear_map)


def writes_the_map(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    Fold().put(view, site, linear_map)
    linear_map.weight.mul_(2)


def refit(change: Callable[[torch.Tensor], torch.Tensor]) -> Put:
    return lambda view, site, t: Refit().put(view, site, attrs.evolve(t, weight=change(t.weight)))


def refit_without_old_bias(view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
    Refit().put(view, site, linear_map)
    writer = view.writer(site.layer, site.branch)
    old = bias_of(writer)
    if old is not None:
        replace_weight(writer, weight_rows(writer), torch.zeros_like(old))


def check_raises(error: type[Exception]) -> Callable[..., None]:
    def check(self: Merger, view: ModelView, cut: Any) -> None:
        try:
            Merger.check(self, view, cut)
        except InvalidCut as found:
            raise error("no such layer") from found

    return check


def refuses(view: ModelView, site: RepairSite) -> None:
    raise CannotMerge("never")


def accepts(view: ModelView, site: RepairSite) -> None:
    """Everything."""


class Plain(Merger):
    """No attrs class."""

    def check_site(self, view: ModelView, site: RepairSite) -> None:
        Fold().check_site(view, site)

    def put(self, view: ModelView, site: RepairSite, linear_map: LinearMap) -> None:
        Fold().put(view, site, linear_map)


@attrs.define
class Mutable(Plain):
    strength: float = 1.0


LAYERS, EXACT = "layers", "must compute what the linearised one does: off by"
SHARED = "which shares its tensors: weights .* have changed"
MUTANTS = [
    Mutant("plain class", Plain, "frozen", "Put @attrs.frozen above it", SOME),
    Mutant("mutable", Mutable, "frozen", "can be changed after it is built", SOME),
    Mutant("does nothing", made(nothing), LAYERS, EXACT, SOME),
    Mutant("transposed", made(mapped(lambda t: t.T)), LAYERS, EXACT, SOME),
    Mutant("negative", made(mapped(lambda t: -t)), LAYERS, EXACT, SOME),
    Mutant("adds the identity", made(mapped(lambda t: t + torch.eye(len(t)))), LAYERS, EXACT, SOME),
    Mutant("rounds the map", made(mapped(lambda t: t.bfloat16().double())), LAYERS, EXACT, SOME),
    Mutant("inverts", made(mapped(torch.linalg.inv)), LAYERS, EXACT, SOME),
    Mutant("the wrong donor", made(next_layer), LAYERS, EXACT, SOME),
    Mutant("the donor's bias is not mapped", made(donor_bias_kept), LAYERS, EXACT, SOME),
    Mutant("multiplier forgotten", made(unscaled_insert, accepts), "bias", f"granite model.*{EXACT}", GRANITE),
    Mutant("multiplier twice", made(map_bias_unscaled), "bias", f"granite model.*{EXACT}", GRANITE),
    Mutant("the map's bias is lost", made(map_bias_forgotten), "bias", EXACT, SOME),
    Mutant("inserts before the norm", made(before_the_norm, accepts), LAYERS, f"gemma2 model.*{EXACT}", NORMS),
    Mutant("folds past the norm", made(mapped(lambda t: t), accepts), "early-refusal", "put refuses it", NORMS),
    Mutant("nothing for attentions", made(only("mlp", nothing)), "attention-donors", f"attention 2.*{EXACT}", SOME),
    Mutant(
        "negative for attentions",
        made(only("mlp", mapped(lambda t: -t))),
        "attention-donors",
        f"attention 2.*{EXACT}",
        SOME,
    ),
    Mutant("transposed for attentions", made(only("mlp", mapped(lambda t: t.T))), "attention-donors", EXACT, SOME),
    Mutant("always the MLP", made(into_the_mlp), "attention-donors", "AttributeError was raised", SOME),
    Mutant("nothing for MLPs", made(only("attention", nothing)), LAYERS, EXACT, SOME),
    Mutant("nothing for narrowed ones", made(unless_narrow(nothing)), "narrowed-donors", EXACT, SOME),
    Mutant("negative for narrowed ones", made(unless_narrow(mapped(lambda t: -t))), "narrowed-donors", EXACT, SOME),
    Mutant("transposed for narrowed", made(unless_narrow(mapped(lambda t: t.T))), "narrowed-donors", EXACT, SOME),
    Mutant("writes in place", made(in_place), "shared", SHARED, SOME),
    Mutant("writes a bias in place", made(bias_in_place), "shared", SHARED, SOME),
    Mutant(
        "writes embeddings in place",
        made(and_then(lambda view, site: cast(Any, view.model.get_input_embeddings()).weight.data.mul_(2))),
        "shared",
        SHARED,
        SOME,
    ),
    Mutant("drops a layer before it looks", made(drops_a_layer_first), "impossible", "a refusal must change", SOME),
    Mutant("another error in check", made(check=check_raises(IndexError)), "impossible", "IndexError was raised", SOME),
    Mutant("seeds", made(and_then(lambda v, s: torch.manual_seed(1))), "process", "torch's random numbers", SOME),
    Mutant("draws", made(and_then(lambda v, s: torch.rand(1))), "process", "torch's random numbers", SOME),
    Mutant(
        "default dtype",
        made(and_then(lambda v, s: torch.set_default_dtype(torch.float64))),
        "process|impossible|shared|plain",
        "the default dtype|dtype",
        SOME,
    ),
    Mutant("trains", made(and_then(lambda v, s: v.model.train())), LAYERS, "into training mode", SOME),
    Mutant("trains a layer", made(and_then(lambda v, s: v.layer(s.layer).train())), LAYERS, "training mode", SOME),
    Mutant(
        "freezes",
        made(and_then(lambda v, s: v.writer(s.layer, s.branch).requires_grad_(False))),
        LAYERS,
        "can no longer be trained",
        SOME,
    ),
    Mutant("another dtype", made(and_then(float64)), LAYERS, "several dtypes", SOME),
    Mutant("a forward hook", made(hooked, accepts), LAYERS, "left a hook on", SOME),
    Mutant("refuses late", made(late), "early-refusal|serves", "check_site accepts .* and put refuses it", SOME),
    Mutant("refuses attentions late", made(late_for_attentions), "early-refusal", "put refuses it", SOME),
    Mutant(
        "check refuses, merge does not",
        made(check_site=refuses),
        "early-refusal|serves",
        r"check\(\) refuses what",
        SOME,
    ),
    Mutant(
        "says that it takes biases",
        made(takes_bias=lambda self, view, site: True),
        "early-refusal",
        "takes_bias says yes to .* and put refuses it",
        SOME,
    ),
    Mutant(
        "does not say that it takes biases",
        made(Insert().put, accepts, takes_bias=lambda self, view, site: False),
        "early-refusal",
        "takes_bias says no to .* where put takes a map with a bias",
        SOME,
    ),
    Mutant("writes into the map", made(writes_the_map), LAYERS, "it wrote into the map", SOME),
    Mutant("any width", made(lambda v, s, t: Fold().put(v, s, LinearMap(torch.eye(16)))), "impossible", "width", SOME),
    Mutant(
        "crashes for another width",
        made(lambda v, s, t: weight_rows(v.writer(s.layer, s.branch)) @ t.weight.float()),
        "impossible",
        "RuntimeError was raised",
        SOME,
    ),
    Mutant(
        "refit: negative",
        made(refit(lambda t: -t), Refit().check_site, "inner"),
        LAYERS,
        EXACT,
        SOME,
    ),
    Mutant(
        "refit: the old bias is lost", made(refit_without_old_bias, Refit().check_site, "inner"), LAYERS, EXACT, SOME
    ),
    Mutant(
        "refit: as if behind an output",
        made(Fold().put, Fold().check_site, "inner"),
        f"{LAYERS}|attention-donors|narrowed-donors|bias|impossible|shared|process",
        "ShapeMismatch was raised|RuntimeError|must be refused",
        SOME,
    ),
]


@pytest.mark.parametrize("mutant", sampled(MUTANTS))
def test_a_wrong_merger_is_caught_by_the_law_that_it_breaks(mutant: Mutant) -> None:
    require_caught(mutant, check_merger)


@pytest.mark.parametrize("control", [made()(), made(Insert().put, accepts)(), Refit()], ids=["fold", "insert", "refit"])
def test_a_right_merger_passes(control: Merger) -> None:
    check_merger(control, adapters=NORMS["adapters"])


def test_a_merger_is_checked_on_a_variant() -> None:
    check_merger(Fold(), **GRANITE, mlp_bias=True, residual_multiplier=0.25)  # type: ignore[arg-type]
