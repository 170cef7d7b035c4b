"""Untouched: notices that a model was written to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

SAMPLE = 256
"""Values of each parameter that are compared, beside the counters."""


class Untouched:
    """A model as it was, to tell whether it still is: in a fraction of a millisecond, or in some ten.

    Every write in place raises a tensor's counter, and another tensor lies elsewhere: that is what
    :meth:`quick` asks, for hooks that are called a thousand times. What is written through ``.data``
    leaves the counters alone: :meth:`thorough` compares a sample of the values as well, and the config.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self._modules = tuple(map(id, model.modules()))
        self._counters = _counters(model)
        self._samples = {name: _sample(parameter) for name, parameter in model.named_parameters()}
        self._config = _config(model)
        self._modes = [(module, module.training) for module in model.modules()]
        self._trained = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self._hooks = [(module, _hooks(module)) for module in model.modules()]

    def quick(self) -> str | None:
        """What is not as it was, in words: ``its weight model.norm.weight``; None if nothing is."""
        counters = _counters(self._model)
        if counters == self._counters:
            return None
        changed = sorted(
            name for name in {*counters, *self._counters} if counters.get(name) != self._counters.get(name)
        )
        return f"its weight {changed[0]}"

    def thorough(self) -> str | None:
        """The same, by comparing more."""
        if found := self.quick():
            return found
        if tuple(map(id, self._model.modules())) != self._modules:
            return "its modules"
        for name, parameter in self._model.named_parameters():
            if not torch.equal(_sample(parameter), self._samples[name]):
                return f"its weight {name}"
        config = _config(self._model)
        for field in {**config, **self._config}:
            if config.get(field) != self._config.get(field):
                return f"{field!r} of its config"
        return None

    def put_back(self) -> list[str]:
        """Modes, ``requires_grad`` and the hooks of modules as they were; and which of them were not."""
        found = []
        if any(module.training != mode for module, mode in self._modes):
            found.append("train mode")
        if any(parameter.requires_grad != wanted for parameter, wanted in self._trained):
            found.append("requires_grad")
        if any(_hooks(module) != hooks for module, hooks in self._hooks):
            found.append("hooks of its modules")
        for module, mode in self._modes:
            module.training = mode
        for parameter, wanted in self._trained:
            parameter.requires_grad_(wanted)
        for module, hooks in self._hooks:
            for kind, before in zip(HOOKS, hooks, strict=True):
                registered = getattr(module, kind)
                for key in registered.keys() - before:
                    del registered[key]
        return found


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def _hooks(module: nn.Module) -> tuple[frozenset[int], ...]:
    return tuple(frozenset(getattr(module, kind)) for kind in HOOKS)


def _counters(model: PreTrainedModel) -> dict[str, tuple[int, int, int]]:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: (id(t), t.data_ptr(), -1 if t.is_inference() else t._version) for name, t in tensors.items()}


def _sample(parameter: Tensor) -> Tensor:
    flat = parameter.detach().reshape(-1)
    # odd, so that of a matrix of even width not always the same column is looked at
    return flat[:: max(1, len(flat) // SAMPLE) | 1].clone()


def _config(model: PreTrainedModel) -> dict[str, str]:
    """The fields as text: some hold objects that are written to in place."""
    return {name: repr(value) for name, value in vars(model.config).items()}
