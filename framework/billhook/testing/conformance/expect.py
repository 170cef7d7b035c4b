"""Assertions that the conformance suites share. Plain functions: no test runner is needed to call them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from billhook.data.tokens import TokenBatch
from billhook.errors import BillhookError
from billhook.model.view import ModelView
from billhook.plans.strategy_spec import StrategySpec
from billhook.plugins.registry import Registry, default_registry
from billhook.roles.role import Role, Strategy, why_unfit
from billhook.testing.conformance.global_state import GlobalState

TOLERANCE = 1e-4
"""Share of the largest entry that float32 results of the same computation in another order may differ by: some
hundreds of roundings of 6e-8 through a few layers, each of which may enlarge the error a few times."""


def fail(who: object, law: str) -> NoReturn:
    """An AssertionError that says who breaks which law."""
    raise AssertionError(f"{who!r} breaks its contract: {law}")


def require(condition: bool, who: object, law: str) -> None:
    """:func:`fail` unless ``condition``."""
    if not condition:
        fail(who, law)


def close(found: Tensor, wanted: Tensor, who: object, law: str, tolerance: float = TOLERANCE) -> None:
    """:func:`fail` unless the two agree to ``tolerance``, relative to the largest entry wanted."""
    require(found.shape == wanted.shape, who, f"{law}: shapes {list(found.shape)} and {list(wanted.shape)} differ")
    found, wanted = (t.detach().to(torch.float64) for t in (found, wanted))
    scale = max(float(wanted.abs().max()), 1e-3) if wanted.numel() else 1.0
    error = float((found - wanted).abs().max()) / scale if wanted.numel() else 0.0
    require(error <= tolerance, who, f"{law}: off by {error:.1e} of the largest entry, {tolerance:.0e} is allowed")


def raises(
    kind: type[BillhookError] | tuple[type[BillhookError], ...], action: Callable[[], object], who: object, law: str
) -> BillhookError:
    """The error that ``action`` raised; :func:`fail` if it raised none, or one of another kind."""
    try:
        action()
    except kind as error:
        return error
    except Exception as error:  # any other error is the finding to report
        raise AssertionError(
            f"{who!r} breaks its contract: {law}; {type(error).__name__} was raised: {error}"
        ) from error
    fail(who, f"{law}; nothing was raised")


@torch.no_grad()
def logits(model: PreTrainedModel, batch: TokenBatch) -> Tensor:
    """Logits of the tokens that are not padding, ``[tokens, vocab]`` float32, without a cache."""
    out = model(input_ids=batch.ids, attention_mask=batch.attention_mask, use_cache=False)
    found: Tensor = out.logits[batch.keep].float()
    return found


class Snapshot:
    """What a model view was, to find out later whether anything has changed."""

    def __init__(self, view: ModelView) -> None:
        self._view = view
        self._model = view.model
        self._numbers = view.numbers
        self._config = view.model.config.to_dict()
        self._modules = [(name, type(module)) for name, module in view.model.named_modules()]
        self._tensors = {name: tensor.clone() for name, tensor in view.model.state_dict().items()}
        self._manners = _manners(view.model)

    def require_same(self, who: object, law: str) -> None:
        """:func:`fail` if numbers, config, modules, weights, modes, flags or hooks differ from what they were."""
        view = self._view
        require(view.numbers == self._numbers, who, f"{law}: layers {self._numbers} became {view.numbers}")
        require(view.model is self._model, who, f"{law}: another model stands in its place")
        require(view.model.config.to_dict() == self._config, who, f"{law}: the config has changed")
        modules = [(name, type(module)) for name, module in view.model.named_modules()]
        require(modules == self._modules, who, f"{law}: the modules have changed")
        self.require_same_weights(who, law)
        now_by_kind = _manners(view.model)
        for what, before in self._manners.items():
            now = now_by_kind[what]
            differing = [name for name in before if before[name] != now.get(name)]
            require(not differing, who, f"{law}: {what} of {', '.join(differing[:3]) or 'the model'} changed")

    def require_same_weights(self, who: object, law: str) -> None:
        """:func:`fail` if any weight differs from what it was."""
        tensors = self._model.state_dict()
        changed = [n for n, t in self._tensors.items() if not torch.equal(t, tensors[n])]
        require(not changed, who, f"{law}: weights {', '.join(changed)} have changed")


def _manners(model: nn.Module) -> dict[str, dict[str, object]]:
    """By module, whether it trains and how many hooks it has; by parameter, whether it wants a gradient."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    modules = dict(model.named_modules())
    return {
        "training mode": {name: module.training for name, module in modules.items()},
        "the hooks": {name: tuple(len(getattr(module, kind)) for kind in kinds) for name, module in modules.items()},
        "requires_grad": {name: parameter.requires_grad for name, parameter in model.named_parameters()},
    }


@contextmanager
def process_unchanged(who: object) -> Iterator[None]:
    """:func:`fail` if global random numbers, dtypes or modes are others afterwards."""
    before = GlobalState()
    yield
    changed = before.changed()
    require(not changed, who, f"it changed {', '.join(changed)}, which the whole process shares")


def check_frozen(strategy: object) -> None:
    """:func:`fail` unless it is a frozen attrs object: its options are then all of it, and the plan holds them."""
    reason = why_unfit(type(strategy))
    require(reason is None, strategy, f"it is a frozen attrs class: {reason}")
    require(bool(strategy == copy.copy(strategy)), strategy, "a copy of it is not equal to it; its options say it all")


def check_options(role: Role, strategy: Strategy, registry: Registry | None = None) -> None:
    """A strategy equals the one that its registered name and its options, through JSON, give.

    Not asked of strategies that are not registered: those cannot be built from a file.
    """
    registry = default_registry() if registry is None else registry
    spec = registry.spec(role, strategy)
    if spec.name.startswith("("):
        return
    options = _through_json(strategy, spec)
    require(options == dict(spec.options), strategy, f"its options {spec.options} are no plain JSON values")
    again = registry.create(role, spec.name, options)
    require(again == strategy, strategy, f"its options {options} give back {again!r}")
    require(repr(strategy).startswith(type(strategy).__name__), strategy, "its repr does not begin with its class")


def _through_json(strategy: Strategy, spec: StrategySpec) -> dict[str, object]:
    try:
        found: dict[str, object] = json.loads(json.dumps(dict(spec.options)))
    except TypeError as error:
        raise AssertionError(f"{strategy!r} breaks its contract: its options are not JSON values: {error}") from error
    return found
