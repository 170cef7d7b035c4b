"""check_merger: what every merger promises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from billhook.cuts.cut import Cut
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.drop_layers import DropLayers
from billhook.cuts.keep_units import keeping
from billhook.cuts.placed import Placed
from billhook.errors import CannotMerge, InvalidCut, ShapeMismatch, UnsupportedArchitecture
from billhook.model.adapter import Adapter
from billhook.model.branch import BRANCHES, Branch
from billhook.model.view import ModelView
from billhook.model.writer import is_linear, weight_rows
from billhook.plugins.registry import Registry, default_registry
from billhook.regression.linear_map import LinearMap
from billhook.roles.merger import Merger
from billhook.testing.conformance.expect import (
    Snapshot,
    check_frozen,
    check_options,
    close,
    fail,
    logits,
    process_unchanged,
    raises,
    require,
)
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.samples.linearisation import donor_of, linearised
from billhook.testing.samples.models import is_buildable, tiny_tokens, tiny_view
from billhook.testing.samples.planted import random_map

FIRST, SECOND = DropLayers(1, 2), DropLayers(3, 5)
"""The cuts that are merged one after the other."""

LAYERS = 6
"""Of the models they are merged into."""

BIASES = ("attention_bias", "mlp_bias")
"""Config attributes that give writers a bias, in the families that know them; off in most tiny configs."""


def check_merger(
    merger: Merger,
    *,
    adapters: Iterable[Adapter] | None = None,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **config_overrides: Any,
) -> None:
    """Raise AssertionError unless ``merger`` keeps the promises of :class:`billhook.Merger`.

    Every adapter's tiny model is either refused with nothing changed, or computes the linearised model's logits
    afterwards; at least one must be accepted. Layers, single branches and units go, so donors are MLPs, attentions, and
    branches that got narrower; maps come with and without bias.

    Args:
        merger: what to check; its options as they are.
        adapters: families to try it on; all that are installed if None.
        registry: where its name is looked up for the round trip of its options; all installed plugins if None.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
        config_overrides: config arguments beside each ``tiny_config``, to check on variants of the families.
    """
    laws = merger_laws(
        merger, adapters=adapters, registry=registry, expected_failures=expected_failures, **config_overrides
    )
    keep(laws)


def merger_laws(
    merger: Merger,
    *,
    adapters: Iterable[Adapter] | None = None,
    registry: Registry | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **config_overrides: Any,
) -> list[Law]:
    """What :func:`check_merger` tests, each law for itself; arguments as there."""
    known = default_registry() if registry is None else registry
    tried = _one_of_each(known.adapters()) if adapters is None else list(adapters)
    families = [_Family(merger, adapter, config_overrides) for adapter in tried]

    def everywhere(check: Callable[[_Family], None]) -> Callable[[], None]:
        return partial(_for_each, check, families)

    exact = "the model computes what the linearised one does"
    promises: list[Promise] = [
        ("frozen", "a merger is a final, frozen attrs class", partial(check_frozen, merger)),
        ("options", "options survive JSON", partial(check_options, "merger", merger, registry)),
        ("plain", "without a map the cut is simply gone", everywhere(_Family.plain)),
        (
            "impossible",
            "a cut or map that does not fit is refused, and changes nothing",
            everywhere(_Family.impossible),
        ),
        ("shared", "replace parameters, as replace_weight does, never write into them", everywhere(_Family.shared)),
        ("process", "nothing that the whole process shares is changed", everywhere(_Family.process)),
        ("layers", f"{exact}: donors are MLPs", everywhere(_Family.layers)),
        ("attention-donors", f"{exact}: donors are attentions; use site.branch", everywhere(_Family.attentions)),
        ("narrowed-donors", f"{exact}: donors are branches that got narrower", everywhere(_Family.narrowed)),
        ("bias", f"{exact}, bias included: divide it by view.adapter.scale", everywhere(_Family.bias)),
        ("early-refusal", "check_site refuses what put refuses, before data are collected", everywhere(_Family.early)),
        ("serves", "at least one family is accepted", partial(_check_served, merger, families)),
    ]
    return suite(merger, promises, expected_failures)


def _for_each(check: Callable[[_Family], None], families: list[_Family]) -> None:
    for family in families:
        check(family)


def _check_served(merger: Merger, families: list[_Family]) -> None:
    served = any(family.serves for family in families)
    require(served, merger, f"it refuses every family of {[family.adapter.name for family in families]}")


def _one_of_each(adapters: Iterable[Adapter]) -> list[Adapter]:
    """One of those whose branches are laid out alike: a merger sees no other difference."""
    found = dict[str, Adapter]()
    for adapter in adapters:
        if is_buildable(adapter):
            scale, form = getattr(adapter, "scale_attribute", None), getattr(adapter, "returns_tuple", None)
            found.setdefault(repr((*map(adapter.layout, BRANCHES), scale, form)), adapter)
    return list(found.values())


class _Family:
    """A merger at work on the tiny model of one family."""

    def __init__(self, merger: Merger, adapter: Adapter, overrides: Mapping[str, Any]) -> None:
        self.merger = merger
        self.adapter = adapter
        self.overrides = overrides

    @cached_property
    def dense(self) -> ModelView:
        return tiny_view(self.adapter, num_hidden_layers=LAYERS, **self.overrides)

    @cached_property
    def with_biases(self) -> ModelView | None:
        """The variant whose writers have biases, in the families that know one."""
        config = self.dense.model.config
        biases = {name: True for name in BIASES if hasattr(config, name) and name not in self.overrides}
        if not biases or all(getattr(config, name) for name in biases):
            return None
        try:
            return tiny_view(self.adapter, num_hidden_layers=LAYERS, **{**self.overrides, **biases})
        except (ValueError, TypeError, UnsupportedArchitecture):
            return None

    @property
    def serves(self) -> bool:
        return self._merges(self.dense.copy(), FIRST, self._map(self.dense, FIRST))

    def plain(self) -> None:
        view, batch = self.dense.copy(), tiny_tokens(seed=4).batches()[0]
        for cut in (DropLayers(0, 1), DropBranch(2, "mlp")):
            reference = linearised(view, cut, None)
            self.merger.merge(view, cut, None)
            law = f"without a map, {cut} must simply be gone ({self.adapter.name})"
            close(logits(view.model, batch), logits(reference, batch), self.merger, law)

    def impossible(self) -> None:
        view, merger = self.dense.copy(), self.merger
        before = Snapshot(view)
        for cut in (DropLayers(0, LAYERS), DropLayers(1, LAYERS + 1)):
            law = f"{cut} of {LAYERS} layers must be refused with InvalidCut"
            raises(InvalidCut, partial(merger.check, view, cut), merger, law)
            raises(InvalidCut, partial(merger.merge, view, cut, None), merger, law)
        law = "a map must be refused with CannotMerge when no layer before the cut could carry it"
        raises(CannotMerge, partial(merger.merge, view, DropLayers(0, 1), self._map(view, FIRST)), merger, law)
        law = "a map of another width must be refused with ShapeMismatch or CannotMerge"
        refusals = (ShapeMismatch, CannotMerge)
        narrow, site = random_map(view.d_model - 1, view.d_model - 1), FIRST.repair_site(view)
        raises(refusals, partial(merger.merge, view, FIRST, narrow), merger, law)
        if site is not None:
            raises(refusals, partial(merger.put, view, site, narrow), merger, law)
        before.require_same(merger, "a refusal must change nothing")

    def shared(self) -> None:
        """Copies share every tensor; so does whoever handed the model in."""
        before = Snapshot(self.dense)
        for cut in (FIRST, *self._narrowings(self.dense)[:1]):
            self._merges(self.dense.copy(), cut, self._map(self.dense, cut))
            law = f"merging into a copy of a {self.adapter.name} model must leave the original alone"
            before.require_same(self.merger, f"{law}, which shares its tensors")

    def process(self) -> None:
        with process_unchanged(self.merger):
            self._merges(self.dense.copy(), FIRST, self._map(self.dense, FIRST))

    def layers(self) -> None:
        view = self.dense.copy()
        if self._merged_exactly(view, FIRST, seed=1):
            self._merged_exactly(view, SECOND, seed=2)

    def bias(self) -> None:
        self._merged_exactly(self.dense.copy(), FIRST, seed=3, bias=True)
        if self.with_biases is not None:
            view = self.with_biases.copy()
            self._merged_exactly(view, FIRST, seed=3, bias=True)
            self._merged_exactly(view, DropBranch(3, "mlp"), seed=4, bias=True)

    def attentions(self) -> None:
        view = self.dense.copy()
        if self._merged_exactly(view, DropBranch(2, "mlp"), seed=5):
            self._merged_exactly(view, DropLayers(3, 4), seed=6)  # of what has lost its MLP

    def narrowed(self) -> None:
        view = self.dense.copy()
        for seed, cut in enumerate(self._narrowings(view)):
            self._merged_exactly(view, cut, seed=7 + seed)
        for cut in self._narrowings(view):  # narrower still
            self._merged_exactly(view, cut, seed=9)

    def early(self) -> None:
        for cut in (FIRST, DropBranch(2, "mlp"), *self._narrowings(self.dense)):
            for bias in (False, True):
                self._check_early(cut, self._map(self.dense, cut, bias=bias))

    def _check_early(self, cut: Cut, linear_map: LinearMap) -> None:
        view, merger = self.dense.copy(), self.merger
        placed = Placed.of(cut, view)
        site, family = placed.site, self.adapter.name
        says = not self._refused_by_check(view, cut)
        yes = f"check_site accepts {site} of a {family} model, and put refuses it"
        no = f"check() refuses what merge() accepts ({family}, {cut})"
        if says and linear_map.bias is not None and site is not None:
            says = merger.takes_bias(view, site)
            require(isinstance(says, bool), merger, f"takes_bias() is True or False; got {says!r}")
            yes = f"takes_bias says yes to {site} of a {family} model, and put refuses it"
            no = f"takes_bias says no to {site} of a {family} model, where put takes a map with a bias"
        try:
            merger.merge_placed(placed, linear_map)
        except CannotMerge as error:
            require(not says, merger, f"{yes}: {error}")
        else:
            require(says, merger, no)

    def _narrowings(self, view: ModelView) -> list[Cut]:
        """Every second unit of each branch of layer 1 stays, where the family allows it."""
        found = list[Cut]()
        branches: tuple[Branch, ...] = ("mlp", "attention")
        for branch in branches:
            units = view.units(1, branch)
            if len(units) > 1 and not view.adapter.why_not_narrowable(view.model.config, branch):
                found.append(keeping((1, branch), units[1::2]))
        return found

    def _map(self, view: ModelView, cut: Cut, *, seed: int = 0, bias: bool = False) -> LinearMap:
        """Of the stream's width, or from what the donor's writer reads after the cut."""
        d_in = view.d_model
        if self.merger.regressor == "inner":
            number, branch = donor_of(view, cut)
            writer = view.writer(number, branch)
            if is_linear(writer):
                units, kept = view.units(number, branch), cut.narrowed.get((number, branch))
                d_in = weight_rows(writer).shape[0] * len(units if kept is None else kept) // len(units)
        return random_map(d_in, view.d_model, seed=seed, bias=bias)

    def _merges(self, view: ModelView, cut: Cut, linear_map: LinearMap) -> bool:
        try:
            self.merger.merge(view, cut, linear_map)
        except CannotMerge:
            return False
        return True

    def _merged_exactly(self, view: ModelView, cut: Cut, *, seed: int, bias: bool = False) -> bool:
        """Merge, and compare with the linearised model; False if the map was refused and nothing has changed."""
        merger, linear_map = self.merger, self._map(view, cut, seed=seed, bias=bias)
        before = Snapshot(view)
        refused = self._refused_by_check(view, cut)
        before.require_same(merger, "check() must change nothing")
        reference = linearised(view, cut, linear_map, merger.regressor)
        kept = linear_map.weight.clone()
        try:
            merger.merge(view, cut, linear_map)
        except CannotMerge:
            before.require_same(merger, "a refusal must change nothing")
            return False
        before.require_same_weights(merger, "it must replace parameters and not write into them, copies share them")
        family = f"{self.adapter.name} model, its {' '.join(map(str, donor_of(view, cut)[::-1]))} as the donor,"
        require(not refused, merger, f"check() refuses what merge() accepts ({family} {cut})")
        require(torch.equal(linear_map.weight, kept), merger, "it wrote into the map")
        _check_survivors(merger, view, cut)
        batch = tiny_tokens(seed=3, padding="both").batches()[0]  # the first row is whole
        law = f"after merging {cut} a {family} must compute what the linearised one does"
        close(self._logits(view, batch), logits(reference, batch), merger, law)
        return True

    def _logits(self, view: ModelView, batch: Any) -> Tensor:
        try:
            return logits(view.model, batch)
        except Exception as error:  # sizes that do not fit raise errors of many kinds
            fail(self.merger, f"what it made of a {self.adapter.name} model does not run: {error!r}")

    def _refused_by_check(self, view: ModelView, cut: Cut) -> bool:
        try:
            self.merger.check(view, cut)
        except CannotMerge:
            return True
        return False


def _check_survivors(merger: Merger, view: ModelView, cut: Cut) -> None:
    layers = {number for number, branch in cut.branches if branch == "attention"} & {
        number for number, branch in cut.branches if branch == "mlp"
    }
    require(not layers & set(view.numbers), merger, f"{cut} are still in view.numbers {view.numbers}")
    count = view.model.config.num_hidden_layers
    require(len(view.layers) == len(view.numbers) == count, merger, f"{len(view.layers)} layers are left, not {count}")
    parameters: list[Tensor] = list(view.model.parameters())
    require(len({p.dtype for p in parameters}) == 1, merger, "weights of several dtypes are left")
    require(all(p.requires_grad for p in parameters), merger, "weights that can no longer be trained are left")
    own = (module for module in view.model.modules() if next(module.parameters(recurse=False), None) is not None)
    training = view.model.training or any(module.training for module in own)
    require(not training, merger, "it put the model into training mode")
    hooks = [n for n, m in view.model.named_modules() if m._forward_hooks or m._forward_pre_hooks]
    require(not hooks, merger, f"it left a hook on {', '.join(hooks)}, which no checkpoint can hold")
