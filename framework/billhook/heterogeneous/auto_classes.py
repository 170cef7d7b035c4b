"""Makes ``AutoModelForCausalLM.from_pretrained`` know the model type ``billhook``, once transformers is there.

``import billhook`` must not import transformers, which takes seconds, so registration waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, cast

AWAITED = "transformers.models.auto.configuration_auto"

MODEL_TYPE = "billhook"


def register_in_time() -> None:
    """Register now if transformers' Auto classes are loaded, else right after they are."""
    if AWAITED in sys.modules:
        register()
    elif not any(isinstance(finder, _Awaiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Awaiting())


def register() -> None:
    """Tell ``AutoConfig`` of the model type; the model classes follow when a config of theirs is read."""
    from transformers import AutoConfig, PreTrainedConfig

    class RegisteredConfig(PreTrainedConfig):
        """Reads a config and makes its model class known."""

        model_type = MODEL_TYPE

        @classmethod
        def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
            """As :meth:`billhook.heterogeneous.configuration_billhook.BillhookConfig.from_dict`."""
            # not above: that module may be the one whose imports have set off this registration
            from billhook.heterogeneous.configuration_billhook import BillhookConfig

            found = BillhookConfig.from_dict(config_dict, **kwargs)
            _register_model(found[0] if isinstance(found, tuple) else found)
            return found

    AutoConfig.register(MODEL_TYPE, RegisteredConfig, exist_ok=True)


def _register_model(config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    from billhook.heterogeneous.modeling_billhook import heterogeneous_model

    family: Any = type(config).__mro__[1]
    heterogeneous_model(cast(Any, MODEL_FOR_CAUSAL_LM_MAPPING)[family], family)


class _Awaiting(MetaPathFinder):
    """Lets everything pass, and has :func:`register` called after :data:`AWAITED` was loaded."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The ordinary spec of the awaited module, with a loader that goes on to register."""
        if fullname != AWAITED:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    """A loader that does what another one does, then registers."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The other loader's."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """The other loader's, and :func:`register`."""
        cast(Any, module.__spec__).loader = self._loader
        self._loader.exec_module(module)
        register()
