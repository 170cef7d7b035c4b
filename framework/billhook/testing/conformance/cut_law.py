"""What check_adapter asks about branches, channels and key-value groups: that each can go, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook.activations.runner import Runner
from billhook.cuts.cut import Cut
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.keep_units import KeepChannels, KeepHeads, keeping
from billhook.data.tokens import TokenBatch
from billhook.errors import InvalidCut
from billhook.heterogeneous.configuration_billhook import global_value
from billhook.model.branch import Branch
from billhook.model.branch_layout import Size
from billhook.model.key_values import read_on
from billhook.model.surgery import parameter_at
from billhook.model.view import ModelView
from billhook.testing.conformance.expect import Snapshot, close, logits, raises, require
from billhook.testing.samples.models import tiny_tokens
from billhook.testing.samples.zeroing import zeroed

BRANCHES: tuple[Branch, ...] = ("attention", "mlp")

NARROWED = 1
"""The layer that gets narrower; none of the first or last, so that both neighbours read and feed it."""


def check_cuts(view: ModelView, who: str) -> None:
    """AssertionError unless every branch can go, and get narrower where the adapter says so, exactly."""
    for branch in BRANCHES:
        _check_paths(view, branch, who)
        _check_units(view, branch, who)
        for number in view.numbers:
            _check_made(view, [DropBranch(number, branch)], who)
        if view.adapter.why_not_narrowable(view.model.config, branch):
            _check_rigid(view, branch, who)
        else:
            _check_made(view, _narrowings(view, branch)[:1], who)
    every = [cut for branch in BRANCHES for cut in _narrowings(view, branch)]
    last = view.numbers[-1]
    _check_made(view, [DropBranch(0, "attention"), *every, DropBranch(last, "mlp"), DropBranch(last, "attention")], who)


def check_some_cuts(view: ModelView, who: str) -> None:
    """The same for one layer alone: each branch goes, and gets narrower where the adapter says so."""
    for branch in BRANCHES:
        _check_made(view, [DropBranch(NARROWED, branch)], who)
        _check_made(view, _narrowings(view, branch)[:1], who)


@torch.no_grad()
def check_generation(model: PreTrainedModel, batch: TokenBatch, who: str) -> None:
    """Logits token by token through the cache equal those of the whole row: no slot is shared or missing."""
    whole = model(input_ids=batch.ids, use_cache=False).logits
    half = batch.ids.shape[1] // 2
    out, cache = read_on(model, batch.ids[:, :half], None, use_cache=True)
    parts = [out.logits]
    for position in range(half, batch.ids.shape[1]):
        token = batch.ids[:, position : position + 1]
        out, cache = read_on(model, token, cache, use_cache=True)
        parts.append(out.logits)
    close(torch.cat(parts, dim=1), whole, who, "logits with the cache differ from those without", 1e-3)


def _check_paths(view: ModelView, branch: Branch, who: str) -> None:
    layer, layout = view.layer(NARROWED), view.adapter.layout(branch)
    # a count in the config belongs to the module that holds the config
    counts = [path.partition(".config.")[0] + ".config" if ".config." in path else path for path in layout.counts]
    owners = [path.rpartition(".")[0] for path in counts]
    # a variant may lack a norm that others have
    alone = () if _is_variant(view) else layout.alone
    for path in (layout.module, *layout.readers, *alone, *owners):
        try:
            layer.get_submodule(path)
        except AttributeError as error:
            raise AssertionError(
                f"{who!r} breaks its contract: the path {path} in its {branch} layout leads nowhere: {error}"
            ) from error
    for owner, path in zip(owners, counts, strict=True):
        there = hasattr(layer.get_submodule(owner), path.rpartition(".")[2])
        require(there, who, f"its {branch} layout counts {path}, which is not there")
    unread = sorted(set(layout.stacked) - set(layout.readers))
    require(not unread, who, f"its {branch} layout stacks {unread}, which are none of its readers")


def _is_variant(view: ModelView) -> bool:
    given = view.adapter.tiny_config.items()
    return any(getattr(view.model.config, name, value) != value for name, value in given)


def _check_units(view: ModelView, branch: Branch, who: str) -> None:
    config, names = view.model.config, view.adapter.layout(branch).sizes
    unit: Size = "channels" if branch == "mlp" else "key_value_heads" if "key_value_heads" in names else "heads"
    require(unit in names, who, f"the sizes of its {branch} do not say which config attribute holds the {unit}")
    told: dict[Size, Any] = {size: global_value(config, name) for size, name in names.items()}
    if told[unit] is None:
        return  # left open by the config: GPT-2's n_inner
    for number in view.numbers:
        found = view.adapter.unit_count(view.layer(number), config, branch)
        law = f"the {branch} of layer {number} has {found} units, and the config says {names[unit]}={told[unit]}"
        require(found == told[unit], who, law)
    sizes = view.adapter.sizes(config, branch, told[unit])
    law = f"{told[unit]} units make an {branch} of sizes {dict(sizes)}, and the config says {told}"
    require({size: sizes.get(size) for size in told} == told, who, law)


def _narrowings(view: ModelView, branch: Branch) -> list[Cut]:
    """Every second unit stays, and every second of those; as far as there are enough."""
    kept, found = view.units(NARROWED, branch), list[Cut]()
    if view.adapter.why_not_narrowable(view.model.config, branch):
        return []
    for _ in range(2):
        kept = kept[1::2]  # not the first: whoever keeps the first ones whatever is asked for gets caught
        found += [keeping((NARROWED, branch), kept)] if kept else []
    return found


def _check_rigid(view: ModelView, branch: Branch, who: str) -> None:
    reason, units = view.adapter.why_not_narrowable(view.model.config, branch), view.units(NARROWED, branch)
    if len(units) < 2:
        return
    cut = keeping((NARROWED, branch), units[1:])
    error = raises(InvalidCut, lambda: cut.check(view), who, f"{cut} must be refused with InvalidCut")
    require(str(reason) in str(error), who, f"{cut} is refused without the adapter's reason: {error}")


def _check_made(view: ModelView, cuts: Sequence[Cut], who: str) -> None:
    """Make the cuts one after the other, and compare with the zeroed model; cuts that are refused are left out."""
    smaller = view.copy()
    made = [cut for cut in cuts if _makes(smaller, cut, who)]
    if not made:
        return
    who = f"{who} with {', '.join(map(str, made))} made"
    reference = zeroed(view, *made)
    for padding in ("none", "both"):
        batch = tiny_tokens(seed=4, padding=padding).batches()[0]
        close(_logits(smaller.model, batch, who), logits(reference, batch), who, "it is not the zeroed model")
    check_generation(smaller.model, tiny_tokens(rows=2, seed=5).batches()[0], who)
    if len(made) == 1:
        _check_parameters(view, smaller, made[0], who)
        # which norms serve one branch alone may differ from variant to variant, which one description cannot say
        if isinstance(made[0], DropBranch) and made[0].layer == NARROWED and not _is_variant(view):
            _check_nothing_idle(smaller, made[0], who)


def _makes(view: ModelView, cut: Cut, who: str) -> bool:
    before, units = Snapshot(view), _units(view)
    try:
        cut.check(view)
    except InvalidCut as error:
        before.require_same(who, "a refused cut must change nothing")
        # a cache needs an attention of the first layer's kind; nothing else stands against a cut
        needed = isinstance(cut, DropBranch) and cut.branch == "attention"
        require(needed, who, f"{cut} is refused: {error}")
        return False
    require(_units(view) == units, who, "check() must change nothing")
    try:
        cut.remove_from(view)
    except Exception as error:  # whatever goes wrong on a wrong path is the finding
        raise AssertionError(f"{who!r} breaks its contract: {cut} cannot be made: {error!r}") from error
    return True


def _units(view: ModelView) -> dict[tuple[int, Branch], tuple[int, ...]]:
    return {(number, branch): view.units(number, branch) for number in view.numbers for branch in BRANCHES}


def _logits(model: PreTrainedModel, batch: TokenBatch, who: str) -> Tensor:
    try:
        return logits(model, batch)
    except Exception as error:  # sizes that do not fit raise errors of many kinds
        raise AssertionError(f"{who!r} breaks its contract: it does not run: {error!r}") from error


def _check_parameters(view: ModelView, smaller: ModelView, cut: Cut, who: str) -> None:
    """Exactly the lost units' share of readers and writer goes; with a whole branch, all that is in it."""
    lost = view.parameter_count - smaller.parameter_count
    if isinstance(cut, DropBranch):
        least = _count(view, cut.layer, cut.branch, [view.adapter.layout(cut.branch).module])
        require(lost >= least, who, f"{lost} parameters went, and the branch has at least {least}")
    if isinstance(cut, KeepChannels | KeepHeads):
        present = len(view.units(cut.layer, cut.branch))
        bias = getattr(view.writer(cut.layer, cut.branch), "bias", None)
        shared = 0 if bias is None else bias.numel()  # of all units
        share = (_count(view, cut.layer, cut.branch) - shared) * (present - len(cut.kept)) // present
        require(lost == share, who, f"{lost} parameters went, and the lost units have {share}")


@torch.no_grad()
def _check_nothing_idle(view: ModelView, cut: DropBranch, who: str) -> None:
    """What is left in the layer does something: a norm that served the lost branch alone has gone with it."""
    layer, runner = view.layer(cut.layer), Runner(view)
    opened = runner.open(tiny_tokens(seed=6).batches()[0])
    whole = runner.run(view, cut.layer, opened, opened.stream)
    for name, module in layer.named_modules():
        if next(module.parameters(recurse=False), None) is None:
            continue
        handle = module.register_forward_hook(_louder)
        try:
            same = torch.equal(runner.run(view, cut.layer, opened, opened.stream), whole)
        finally:
            handle.remove()
        law = f"{name} of layer {cut.layer} does nothing any more and its parameters stay"
        require(not same, who, f"{law}: name it in the 'alone' of the {cut.branch} layout")


def _louder(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    if isinstance(output, tuple):  # an attention with parameters of its own, and its weights
        return (_louder(module, args, output[0]), *output[1:])
    return 2 * output + 1 if isinstance(output, Tensor) else output


def _count(view: ModelView, number: int, branch: Branch, more: Sequence[str] = ()) -> int:
    """Parameters of a branch's readers and writer, and of ``more`` modules; each once."""
    layer, layout = view.layer(number), view.adapter.layout(branch)
    modules: list[nn.Module] = [layer.get_submodule(path) for path in (*layout.readers, layout.writer, *more)]
    alone = {found for path in layout.per_head if (found := parameter_at(layer, path)[2]) is not None}
    return sum(p.numel() for p in {p for module in modules for p in module.parameters()} | alone)
