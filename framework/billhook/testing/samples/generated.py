"""Hypothesis strategies: what property tests draw from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from transformers import PreTrainedModel

from billhook.cuts.cut import Cut
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.drop_layers import DropLayers
from billhook.cuts.keep_units import KEEPING, KeepChannels, KeepHeads
from billhook.data.record import CalibrationRecord, PartRecord
from billhook.data.tokens import TokenBatch
from billhook.errors import InvalidCut
from billhook.model.adapter import Adapter
from billhook.model.branch import Branch
from billhook.model.view import ModelView
from billhook.plans.budget import Budget
from billhook.plans.plan import ModelIdentity, Plan
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import default_registry
from billhook.regression.linear_map import LinearMap
from billhook.testing.samples.models import is_buildable, tiny_model
from billhook.testing.samples.planted import PlantedProblem, Structure, planted_problem, random_map

try:
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "The strategies of billhook.testing draw their examples with hypothesis: pip install 'billhook[test]'"
    ) from error

BRANCHES: tuple[Branch, ...] = ("attention", "mlp")

SEEDS = st.integers(0, 2**31 - 1)
"""Tensors are made from a drawn seed: entry by entry, hypothesis would spend its time on numbers, not on cases."""


def adapters() -> st.SearchStrategy[Adapter]:
    """One of the installed adapters, of those that the installed transformers has a model for."""
    return st.sampled_from([found for found in default_registry().adapters() if is_buildable(found)])


@st.composite
def tiny_models(
    draw: st.DrawFn, given: st.SearchStrategy[Adapter] | None = None, layers: st.SearchStrategy[int] | None = None
) -> PreTrainedModel:
    """A random tiny model of any family and of any model type its adapter serves; 3 to 6 layers."""
    adapter = draw(adapters() if given is None else given)
    model_type = draw(st.sampled_from(adapter.model_types))
    count = draw(st.integers(3, 6) if layers is None else layers)
    return tiny_model(model_type, seed=draw(SEEDS), num_hidden_layers=count)


@st.composite
def spans(draw: st.DrawFn, layer_count: int, first: int = 1) -> tuple[int, int]:
    """``(start, stop)``, half-open, of at least one layer, not before ``first``; never the whole model."""
    start = draw(st.integers(first, layer_count - 1))
    longest = layer_count if start > 0 else layer_count - 1
    return start, draw(st.integers(start + 1, longest))


@st.composite
def cuts(draw: st.DrawFn, view: ModelView) -> Cut:
    """Anything that ``view`` can lose now; every kind of cut that it can lose is equally likely."""
    narrowing = [
        (number, branch) for number in view.numbers for branch in BRANCHES if _can_narrow(view, number, branch)
    ]
    kinds = [
        _possible(view, [DropLayers(n, m) for n in view.numbers for m in range(n + 1, view.numbers[-1] + 2)]),
        _possible(view, [DropBranch(number, branch) for number in view.numbers for branch in BRANCHES]),
        [_narrowings(view, number, branch) for number, branch in narrowing if branch == "mlp"],
        [_narrowings(view, number, branch) for number, branch in narrowing if branch == "attention"],
    ]
    return draw(draw(st.sampled_from(draw(st.sampled_from([kind for kind in kinds if kind])))))


@st.composite
def cut_sequences(draw: st.DrawFn, view: ModelView, longest: int = 5) -> tuple[Cut, ...]:
    """1 to ``longest`` cuts, each of which can be made once those before it are. ``view`` stays as it is."""
    smaller, found = view.copy(), list[Cut]()
    for _ in range(draw(st.integers(1, longest))):
        if len(smaller.numbers) == 1:
            break  # soon there would be nothing left to draw
        found.append(draw(cuts(smaller)))
        found[-1].remove_from(smaller)
    return tuple(found)


def _possible(view: ModelView, offered: Iterable[Cut]) -> list[st.SearchStrategy[Cut]]:
    return [st.just(cut) for cut in offered if _passes(view, cut)]


def _passes(view: ModelView, cut: Cut) -> bool:
    try:
        cut.check(view)
    except InvalidCut:
        return False
    return True


def _can_narrow(view: ModelView, number: int, branch: Branch) -> bool:
    return len(view.units(number, branch)) > 1 and not view.adapter.why_not_narrowable(view.model.config, branch)


def _narrowings(view: ModelView, number: int, branch: Branch) -> st.SearchStrategy[Cut]:
    present = view.units(number, branch)
    kept = st.sets(st.sampled_from(present), min_size=1, max_size=len(present) - 1).map(sorted).map(tuple)
    return st.builds(KEEPING[branch], st.just(number), kept)


@st.composite
def linear_maps(draw: st.DrawFn, d_in: int, d_out: int | None = None, *, bias: bool | None = None) -> LinearMap:
    """A map ``[d_in, d_out]`` in float32 or float64; with a bias, without, or either if ``bias`` is None."""
    with_bias = draw(st.booleans()) if bias is None else bias
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    found = random_map(d_in, d_out, seed=draw(SEEDS), bias=with_bias)
    size = draw(st.sampled_from([1.0, 0.1, 0.0]))
    return LinearMap((size * found.weight).to(dtype), None if found.bias is None else found.bias.to(dtype))


@st.composite
def planted_problems(
    draw: st.DrawFn,
    *,
    noise: float = 0.0,
    structure: Structure = "full",
    bias: bool = False,
    square: bool = True,
    narrowest: int = 1,
    dtype: torch.dtype = torch.float64,
) -> PlantedProblem:
    """A regression whose answer is known, of ``narrowest`` to 8 columns, with at least ten tokens a column."""
    d_in = draw(st.integers(narrowest, 8))
    return planted_problem(
        seed=draw(SEEDS),
        tokens=draw(st.integers(10 * (d_in + 1), 200)),
        d_in=d_in,
        d_out=d_in if square else draw(st.integers(1, 8)),
        structure=structure,
        bias=bias,
        noise=noise,
        dtype=dtype,
    )


def budgets() -> st.SearchStrategy[Budget]:
    """A budget in layers, parameters or bytes."""
    shares = st.floats(0, 1, exclude_min=True, exclude_max=True)
    return st.one_of(
        st.builds(Budget, layers=st.integers(1, 100)),
        st.builds(Budget, parameters=shares, of=st.sampled_from(["all", "backbone"])),
        st.builds(Budget, bytes=st.integers(1, 2**40)),
    )


WHOLE = st.integers(-(2**63), 2**63 - 1)
"""Integers that a plan can hold."""


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan of some cuts of any kind, with strategies of any name and options."""
    layer_count = draw(st.integers(8, 80))
    identity = st.builds(
        ModelIdentity,
        model_type=st.text(),
        layer_count=st.just(layer_count),
        parameter_count=st.integers(1, 2**40),
        name=st.text(),
    )
    return Plan(
        cuts=tuple(draw(st.lists(_any_cut(layer_count), max_size=5))),
        model=draw(identity),
        budget=draw(budgets()),
        selector=draw(_specs()),
        estimator=draw(_specs()),
        merger=draw(_specs()),
        calibration=draw(_records()),
        billhook=draw(st.text()),
    )


@st.composite
def token_batches(draw: st.DrawFn, vocab_size: int = 64) -> TokenBatch:
    """Up to 4 rows of up to 12 tokens, each padded on the left, on the right or not; one token a row is real."""
    seq = draw(st.integers(1, 12))
    keep = [draw(_keep(seq)) for _ in range(draw(st.integers(1, 4)))]
    generator = torch.Generator().manual_seed(draw(SEEDS))
    ids = torch.randint(vocab_size, (len(keep), seq), generator=generator)
    return TokenBatch(ids=ids, keep=torch.tensor(keep))


def _keep(seq: int) -> st.SearchStrategy[list[bool]]:
    def row(real: int, left: bool) -> list[bool]:
        flags = [True] * real + [False] * (seq - real)
        return flags[::-1] if left else flags

    return st.builds(row, st.integers(1, seq), st.booleans())


def _any_cut(layer_count: int) -> st.SearchStrategy[Cut]:
    """A cut of any kind that some model of so many layers could lose."""
    number = st.integers(0, layer_count - 1)
    kept = st.sets(st.integers(0, 100), min_size=1, max_size=30).map(sorted).map(tuple)
    return st.one_of(
        spans(layer_count, first=0).map(lambda span: DropLayers(*span)),
        st.builds(DropBranch, number, st.sampled_from(BRANCHES)),
        st.builds(KeepChannels, number, kept),
        st.builds(KeepHeads, number, kept),
    )


def _specs() -> st.SearchStrategy[StrategySpec]:
    names = st.from_regex(r"[a-z]{1,8}:[a-z]{1,8}(-[a-z]{1,8})?", fullmatch=True)
    plain = st.one_of(st.booleans(), WHOLE, st.floats(allow_nan=False, allow_infinity=False), st.text())
    options = st.dictionaries(st.text(min_size=1), st.one_of(plain, st.lists(plain, max_size=3)), max_size=3)
    return cast("st.SearchStrategy[StrategySpec]", st.builds(StrategySpec, name=names, options=options))


def _records() -> st.SearchStrategy[CalibrationRecord]:
    counts = st.integers(1, 10**6)
    return st.builds(
        CalibrationRecord,
        source=st.text(),
        samples=counts,
        seqlen=counts,
        seed=WHOLE,
        packing=st.sampled_from(["pack", "pad"]),
        chat_template=st.booleans(),
        begin=st.booleans(),
        token_count=counts,
        fingerprint=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
        parts=st.lists(_parts(), max_size=3).map(tuple),
    )


def _parts() -> st.SearchStrategy[PartRecord]:
    values = st.none() | WHOLE | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    return st.builds(
        PartRecord,
        source=st.text(),
        weight=st.floats(0, exclude_min=True, allow_infinity=False),
        rows=st.integers(0, 10**6),
        options=st.dictionaries(st.text(min_size=1), values, max_size=2),
    )
