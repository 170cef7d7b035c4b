"""check_adapter: what every adapter promises."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, cast

import attrs
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from billhook.activations.runner import OpenBatch, Runner
from billhook.cuts.drop_layers import DropLayers
from billhook.data.tokens import TokenBatch
from billhook.errors import CannotMerge, InvalidCut
from billhook.model.adapter import Adapter
from billhook.model.branch import Branch
from billhook.model.view import ModelView
from billhook.model.writer import weight_rows
from billhook.testing.conformance.cut_law import BRANCHES, check_cuts, check_generation, check_some_cuts
from billhook.testing.conformance.expect import Snapshot, close, fail, logits, require
from billhook.testing.conformance.law import Law, Promise, keep, suite
from billhook.testing.conformance.uneven_law import check_maps, check_uneven
from billhook.testing.conformance.variants import hidden_variants, variant_of
from billhook.testing.samples.linearisation import linearised
from billhook.testing.samples.models import tiny_model, tiny_tokens

MANY_PARAMETERS = 200_000
"""A tiny model stays below: suites build hundreds of them."""


def check_adapter(
    adapter: Adapter, *, expected_failures: Mapping[str, str] | None = None, **config_overrides: Any
) -> None:
    """Raise AssertionError unless ``adapter`` keeps the promises of :class:`billhook.Adapter`.

    Builds its tiny model for each of its model types and looks whether paths lead somewhere, layers run one at a time
    compute what the whole model does, what is noted of a branch is what it adds to the stream, and a model that has
    lost layers generates with its cache as without and survives saving and loading by stock transformers. A model that
    has lost a branch, channels or key-value groups must compute what the zeroed one does (:func:`zeroed`), with and
    without cache, and have that many parameters less; where the adapter refuses to narrow, the reason must be told.

    Variants that the tiny config leaves at their defaults (factors of 1, switches) are built and looked at too; one
    that the description does not fit must be among those it refuses.

    Args:
        adapter: what to check; it need not be installed.
        expected_failures: by the name of a law, why it is known not to hold; such laws must fail.
        config_overrides: config arguments beside ``tiny_config``, to check a variant of the family.
    """
    keep(adapter_laws(adapter, expected_failures=expected_failures, **config_overrides))


def adapter_laws(
    adapter: Adapter, *, expected_failures: Mapping[str, str] | None = None, **config_overrides: Any
) -> list[Law]:
    """What :func:`check_adapter` tests, each law for itself; arguments as there."""
    families = [_Family(adapter, model_type, config_overrides) for model_type in adapter.model_types]

    def each(check: Callable[[ModelView, str], None]) -> Callable[[], None]:
        return partial(_for_each, check, families)

    promises: list[Promise] = [
        ("names", "an adapter has a name and serves a model type", partial(_check_names, adapter)),
        ("tiny", "tiny_config builds a small model in which nothing is hidden", partial(_for_each_family, families)),
        ("parts", "paths lead to the parts of each branch", each(_check_parts)),
        ("streams", "layers run one at a time compute what the model does", each(_check_streams)),
        ("contributions", "what a branch is said to add to the stream is what it adds", each(_check_contributions)),
        ("layers", "without layers the model computes, generates, saves and loads", each(_check_dropping)),
        ("cuts", "branches and units go exactly, with all that serves them alone", each(check_cuts)),
        ("uneven", "models whose layers differ are saved, loaded and padded", each(check_uneven)),
        ("maps", "a map takes the place of what goes, exactly, or is refused before", each(check_maps)),
        *(
            [("variants", "variants that the description does not fit are refused", each(check_variants))]
            if not config_overrides
            else []
        ),
        ("untouched", "looking changes nothing", each(_check_untouched)),
    ]
    return suite(_Named(adapter), promises, expected_failures)


@attrs.frozen(repr=False)
class _Named:
    """An adapter in messages: its repr has all of its paths."""

    adapter: Adapter

    def __repr__(self) -> str:
        return f"{self.adapter.name} adapter"


def check_variants(view: ModelView, who: str) -> None:
    """AssertionError unless every variant that the tiny config hides is served, or refused."""
    for name, value in hidden_variants(view.model.config):
        variant = variant_of(view, name, value)
        if variant is not None:
            which = f"{who} with {name}={value!r}"
            _check_runner(variant, tiny_tokens(seed=1, padding="both").batches()[0], which)
            _check_contributions(variant, which)
            check_some_cuts(variant, which)
            _drops(variant, DropLayers(1, 2), which)


def _for_each(check: Callable[[ModelView, str], None], families: list[_Family]) -> None:
    for family in families:
        check(family.view, family.who)


def _for_each_family(families: list[_Family]) -> None:
    for family in families:
        _check_tiny(family.view, family.who, bool(family.overrides))


def _check_names(adapter: Adapter) -> None:
    named = bool(adapter.name) and bool(adapter.model_types)
    require(named, _Named(adapter), "it has no name or serves no model type")


def _check_untouched(view: ModelView, who: str) -> None:
    before = Snapshot(view)
    _check_contributions(view, who)
    _drops(view, DropLayers(1, 2), who)
    before.require_same(who, "looking must change nothing")


class _Family:
    """The tiny model of one of an adapter's model types."""

    def __init__(self, adapter: Adapter, model_type: str, overrides: Mapping[str, Any]) -> None:
        self.adapter = adapter
        self.model_type = model_type
        self.overrides = overrides
        self.who = f"{adapter.name} adapter ({', '.join((model_type, *map(str, overrides.items())))})"

    @cached_property
    def view(self) -> ModelView:
        try:
            model = tiny_model(self.adapter, model_type=self.model_type, **self.overrides)
        except Exception as error:  # whatever a config class raises is the finding
            raise AssertionError(
                f"{self.who!r} breaks its contract: its tiny_config builds no model: {error}"
            ) from error
        return ModelView(model, self.adapter)


def _check_tiny(view: ModelView, who: str, overridden: bool) -> None:
    size = sum(p.numel() for p in view.model.parameters())
    require(size < MANY_PARAMETERS, who, f"its tiny_config makes a model of {size:,} parameters; make it smaller")
    count = view.model.config.num_hidden_layers
    require(len(view.layers) == count, who, "layers() is not the list the config counts")
    require(len(view.layers) >= 4, who, "its tiny_config needs at least 4 layers, so that cuts have neighbours")
    sizes = view.adapter.layout("attention").sizes
    if "key_value_heads" in sizes and "heads" in sizes and not overridden:
        heads, groups = (getattr(view.model.config, sizes[name]) for name in ("heads", "key_value_heads"))
        law = f"its tiny_config has {groups} key-value heads for {heads} heads, which hides how queries are grouped"
        require(groups is None or groups < heads, who, f"{law}; give it fewer key-value heads")


def _check_parts(view: ModelView, who: str) -> None:
    require(view.d_model > 0, who, "the config has no hidden_size")
    for number in view.numbers:
        layer = view.layer(number)
        for branch in BRANCHES:
            writer = view.writer(number, branch)
            try:
                rows = weight_rows(writer)
            except CannotMerge as error:
                raise AssertionError(
                    f"{who!r} breaks its contract: the {branch} writer is no linear layer: {error}"
                ) from error
            require(rows.shape[1] == view.d_model, who, f"the {branch} writer's outputs are not d_model many")
            _check_output(view, layer, branch, writer, who)


def _check_output(view: ModelView, layer: nn.Module, branch: Branch, writer: nn.Module, who: str) -> None:
    path = view.adapter.output(layer, branch)
    try:
        output = layer.get_submodule(path)
    except AttributeError as error:
        raise AssertionError(f"{who!r} breaks its contract: output() leads nowhere: {error}") from error
    reason = view.adapter.why_not_foldable(branch)
    law = f"the {branch} output is {path}, which is{'' if output is writer else ' not'} the writer; reason: {reason}"
    require((output is writer) == (reason is None), who, f"only a module behind the writer prevents folding: {law}")


def _check_streams(view: ModelView, who: str) -> None:
    for padding in ("none", "both"):
        _check_runner(view, tiny_tokens(seed=1, padding=padding).batches()[0], who)


@torch.no_grad()
def _check_runner(view: ModelView, batch: TokenBatch, who: str) -> None:
    """Single layers on handed-in streams against the model's own forward, seen by hooks."""
    inside, last = _own_streams(view, batch)
    leaving = cast(Tensor, last[0] if isinstance(last, tuple) else last)
    form = type(view.adapter.as_layer_output(leaving)).__name__
    law = f"a layer returns a {type(last).__name__}, and as_layer_output makes a {form}"
    require(isinstance(last, tuple) == (form == "tuple"), who, law)
    runner = Runner(view)
    opened = runner.open(batch)
    stream = opened.stream
    for number, own in zip(view.numbers, inside, strict=True):
        close(stream[batch.keep], own[batch.keep], who, f"the stream entering layer {number} is not the model's own")
        entering = stream.clone()
        following = runner.run(view, number, opened, stream)
        # streams are cached and handed out again
        require(torch.equal(stream, entering), who, f"layer {number} writes into the stream that it is given")
        stream = following
    close(stream[batch.keep], leaving[batch.keep], who, "the stream leaving the last layer is not the model's own")
    found = runner.logits(stream[batch.keep]).float()
    close(found, logits(view.model, batch), who, "norm and head on the last stream do not give the model's logits")
    require(view.adapter.stream(view.adapter.as_layer_output(stream)) is stream, who, "as_layer_output is not inverse")


def _own_streams(view: ModelView, batch: TokenBatch) -> tuple[list[Tensor], object]:
    """What enters each layer of the whole model, and what the last one returns."""
    entering: list[Tensor] = []
    outputs: list[object] = []
    handles = [layer.register_forward_pre_hook(_first_into(entering), with_kwargs=True) for layer in view.layers]
    handles.append(view.layers[-1].register_forward_hook(lambda layer, args, output: outputs.append(output)))
    try:
        logits(view.model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return entering, outputs[0]


def _first_into(seen: list[Tensor]) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args[0] if args else kwargs["hidden_states"]).clone())

    return hook


@torch.no_grad()
def _check_contributions(view: ModelView, who: str) -> None:
    """What run_recording notes of a branch is what the stream lacks when that branch is silenced."""
    runner = Runner(view)
    opened = runner.open(tiny_tokens(seed=2).batches()[0])
    stream = opened.stream
    for number in view.numbers:
        silent = _run_silenced(runner, view, number, opened, stream, BRANCHES)
        close(silent, stream, who, f"layer {number} adds to the stream what neither of its outputs wrote")
        only_attention = _run_silenced(runner, view, number, opened, stream, ("mlp",))
        attention = runner.run_recording(view, number, "attention", opened, stream)
        law = f"is not what the {{}} of layer {number} adds to the stream"
        close(attention.output, only_attention - stream, who, "the output noted " + law.format("attention"), 1e-3)
        mlp = runner.run_recording(view, number, "mlp", opened, stream)
        close(mlp.output, mlp.leaving - only_attention, who, "the output noted " + law.format("mlp"), 1e-3)
        stream = mlp.leaving


def _run_silenced(
    runner: Runner, view: ModelView, number: int, opened: OpenBatch, stream: Tensor, branches: Sequence[Branch]
) -> Tensor:
    layer = view.layer(number)
    paths = [view.adapter.output(layer, branch) for branch in branches]
    handles = [layer.get_submodule(path).register_forward_hook(_silence) for path in paths]
    try:
        return runner.run(view, number, opened, stream)
    finally:
        for handle in handles:
            handle.remove()


def _silence(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return torch.zeros_like(output)


def _check_dropping(view: ModelView, who: str) -> None:
    count = len(view.numbers)
    cuts = (DropLayers(1, 2), DropLayers(1, 3), DropLayers(2, count), DropLayers(0, 1))
    refusals = [cut for cut in cuts if not _drops(view, cut, who)]
    require(len(refusals) < len(cuts), who, "its config can express none of the usual cuts")


def _drops(view: ModelView, cut: DropLayers, who: str) -> bool:
    """Check one cut; False if the config cannot express it and nothing has changed."""
    smaller = view.copy()
    before = Snapshot(smaller)
    try:
        smaller.drop_layers(cut.layers)
    except InvalidCut:
        before.require_same(who, "a refused cut must change nothing")
        return False
    batch = tiny_tokens(seed=3).batches()[0]
    own = logits(smaller.model, batch)
    close(own, logits(linearised(view, cut, None), batch), who, f"without {cut} it computes something else")
    check_generation(smaller.model, batch, f"{who} without {cut}")
    _check_reload(smaller.model, batch, own, f"{who} without {cut}")
    return True


def _check_reload(model: PreTrainedModel, batch: TokenBatch, own: Tensor, who: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        # an overload that its annotation does not know: with the info, a pair comes back
        answer: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    loaded, info = answer
    holes = [name for kind in ("missing_keys", "unexpected_keys", "mismatched_keys") for name in info[kind]]
    if holes:
        fail(who, f"stock transformers loads it with holes: {sorted(map(str, holes))}")
    close(logits(loaded.eval(), batch), own, who, "after saving and loading it computes something else")
