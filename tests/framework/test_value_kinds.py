"""Values of the wrong kind are one InvalidConfig each, in every class of options, with the option's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import attrs
import numpy as np
import pytest
import torch

from billhook import (
    ActivationCache,
    Budget,
    CacheBudget,
    Calibration,
    DropBranch,
    DropLayers,
    KeepChannels,
    Pruner,
    Race,
    Repair,
    SelfGenerated,
    accuracy,
    apply,
    default_registry,
    evaluate,
    typed,
)
from billhook.errors import InvalidConfig, InvalidCut
from billhook.testing import tiny_model, tiny_tokenizer, tiny_tokens
from billhook_strategies.selectors.fixed_windows import FixedWindows
from billhook_strategies.selectors.mixed import Mixed
from billhook_strategies.selectors.sequence import Sequence
from billhook_strategies.selectors.sleb import Sleb


@attrs.frozen(kw_only=True, field_transformer=typed)
class Options:
    count: int = 1
    share: float | None = None
    on: bool = False
    name: str = "a"
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[float, ...] = ()
    word: Literal["a", "b"] = "a"
    place: Path | None = None
    anything: Any = None
    unknown: NotLoaded = None  # type: ignore[name-defined]  # noqa: F821 - as of a name that only type checkers see


RIGHT: list[dict[str, Any]] = [
    {"count": np.int64(3)},
    {"share": 1},
    {"share": np.float32(0.5)},
    {"on": True},
    {"pair": [1, 2]},
    {"many": (1, 2.5)},
    {"place": Path()},
    {"anything": object()},
    {"unknown": 5},
]

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"count": "2"}, "The 'count' of Options must be a whole number; got '2'"),
    ({"count": 2.0}, "must be a whole number; got 2.0"),
    ({"count": True}, "must be a whole number; got True"),
    ({"share": "much"}, "The 'share' of Options must be a number or None; got 'much'"),
    ({"share": [1]}, "must be a number or None"),
    ({"on": 1}, "must be True or False; got 1"),
    ({"name": b"a"}, "must be text; got b'a'"),
    ({"pair": (1,)}, "must be a tuple of a whole number, a number"),
    ({"pair": 1}, "must be a tuple"),
    ({"many": (1, "x")}, "must be a tuple of a number"),
    ({"word": 5}, "must be 'a' or 'b'; got 5"),
    ({"place": "here"}, "must be a Path or None"),
    ({"count": [10**5000]}, "that has no text"),
    ({"name": ["x" * 500]}, "x…"),
]


@pytest.mark.parametrize("options", RIGHT, ids=[next(iter(options)) for options in RIGHT])
def test_values_of_the_right_kind_stay_as_they_are(options: dict[str, Any]) -> None:
    made = Options(**options)
    assert all(getattr(made, name) is value for name, value in options.items())


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_value_of_another_kind_is_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message) as refused:
        Options(**options)
    assert len(str(refused.value)) < 250


MAKERS: list[tuple[Callable[..., object], dict[str, Any], str]] = [
    (Budget, {"layers": "2"}, "'layers' of Budget must be a whole number or None"),
    (Budget, {"layers": True}, "'layers' of Budget"),
    (Budget, {"parameters": "a"}, "'parameters' of Budget must be a number"),
    (Budget, {"ratio": 0.2}, r"Budget\(parameters=0.2\), a share"),
    (Repair, {"closing": 1.5}, "'closing' of Repair must be a whole number"),
    (Repair, {"closing": 10**400}, "'closing' of Repair must not be negative, nor above 100"),
    (Repair, {"held_out": None}, "'held_out' of Repair must be a number"),
    (Calibration, {"samples": "8"}, "'samples' of Calibration must be a whole number"),
    (Calibration, {"seed": 2**64}, r"'seed' of Calibration must lie between -2\^63 and 2\^64"),
    (Calibration, {"seed": 10**5000}, "'seed' of Calibration must lie between"),
    (Calibration, {"samples": 2**40}, r"must be below 2\^31"),
    (Calibration, {"chat_template": "yes"}, "'chat_template' of Calibration must be True or False"),
    (CacheBudget, {"host": "1G"}, "'host' of CacheBudget must be a whole number"),
    (ActivationCache, {"budget": 10}, "budget of ActivationCache must be a CacheBudget or None; got 10"),
    (SelfGenerated, {"temperature": "hot"}, "'temperature' of SelfGenerated must be a number"),
    (Race, {"data": 0.5}, "'data' of Race must be a tuple of a number"),
    (Sleb, {"protect_first": "x"}, "'protect_first' of Sleb must be a whole number"),
    (Sleb, {"race": 5}, "'race' of Sleb must be a Race or None"),
    (Mixed, {"parts": 0.5}, "'parts' of Mixed must be a tuple"),
    (FixedWindows, {"spans": [(1, "a")]}, "'spans' of FixedWindows must be a tuple"),
    (Sequence, {"stages": 5}, "'stages' of Sequence are Stage objects"),
    (Pruner, {"repair": {"when": "final"}}, "'repair' of Pruner must be a Repair or None; got {'when': 'final'}"),
    (Pruner, {"cache": 10}, "'cache' of Pruner must be a CacheBudget; got 10"),
    (Pruner, {"hooks": object}, "'hooks' of Pruner must be a sequence"),
    (Pruner, {"tokens_per_batch": 0}, "'tokens_per_batch' of Pruner must be at least 1"),
    (Pruner, {"tokens_per_batch": "4k"}, "'tokens_per_batch' of Pruner must be a whole number or None"),
    (Pruner, {"journal": 5}, "'journal' of Pruner must be text or a PathLike or None; got 5"),
    (Pruner, {"registry": "mine"}, "'registry' of Pruner must be a Registry"),
]


@pytest.mark.parametrize(("make", "options", "message"), MAKERS)
def test_every_class_of_options_refuses_other_kinds(
    make: Callable[..., object], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidConfig, match=message):
        make(**options)


def test_a_bare_number_is_no_budget() -> None:
    with pytest.raises(InvalidConfig, match="A Budget says what it counts"):
        Budget(3)  # type: ignore[call-arg]


@pytest.mark.parametrize("kept", [[0, 1], (0, "a"), (0, 1.0), torch.tensor([0, 1]), 5, None, (True, 2)], ids=repr)
def test_units_are_a_tuple_of_whole_numbers(kept: Any) -> None:
    with pytest.raises(InvalidCut, match="takes a layer and a tuple of whole numbers"):
        KeepChannels(2, kept)


@pytest.mark.parametrize("number", ["1", 1.0, None, [1]])
def test_layers_are_whole_numbers(number: Any) -> None:
    with pytest.raises(InvalidCut, match="takes whole numbers"):
        DropLayers(0, number)
    with pytest.raises(InvalidCut, match="takes the number of a layer"):
        DropBranch(number, "mlp")


@pytest.mark.parametrize("name", ["sleb", "blockpruner", "mixed", "multipruner", "cosine"])
def test_a_word_for_a_number_is_said_by_its_option(name: str) -> None:
    """On the command line too, where options come as JSON or text."""
    registry = default_registry()
    names = [offered for offered in registry.names("selector") if name in offered.replace("-", "")]
    for selector in names:
        for option in ("windows", "protect_first", "rounds", "race", "channel_group"):
            with pytest.raises(
                InvalidConfig, match=f"has no option '{option}'|wrong option: .*{option}|The '{option}' of"
            ):
                registry.create("selector", selector, {option: "x"})


def test_functions_refuse_other_kinds_too() -> None:
    model, tokenizer, tokens = tiny_model(), tiny_tokenizer(), tiny_tokens(8, 12)
    plan = Pruner.following("replaceme-ls").prune(model, calibration=tokens, budget=Budget(layers=1)).plan
    with pytest.raises(InvalidConfig, match="'pruner' of apply must be a Pruner or None; got 5"):
        apply(plan, model, calibration=tokens, pruner=5)  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="must be a transformers tokenizer"):
        Pruner().prune(model, "gpt2", calibration=tokens, budget=Budget(parameters=0.1))  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="'seqlen' of an evaluation must be a whole number; got '8'"):
        evaluate(model, tokenizer, seqlen="8")  # type: ignore[arg-type]
    with pytest.raises(InvalidConfig, match="'tokens' of an evaluation must be a whole number; got None"):
        evaluate(model, tokenizer, tokens=None)  # type: ignore[arg-type]
    question = {"query": "a", "choices": ["a", "b"], "gold": 0}
    with pytest.raises(InvalidConfig, match="'limit' of a task must be a whole number or None"):
        accuracy(model, tokenizer, [question], limit="all")  # type: ignore[arg-type]
