"""The header of a GGUF file: its scalars and the names, shapes and places of its tensors, read in milliseconds.

https://github.com/ggml-org/ggml/blob/master/docs/gguf.md describes the format. The package gguf reads it as well, and
takes seconds, since it makes objects of every token of the vocabulary.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import attrs
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from billhook.errors import ModelNotFound, UnusableModel

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_NESTING = 8
"""Arrays within arrays that are followed; real files have none."""


_MODEL_TYPES = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gpt-oss": "gpt_oss",
    "minimax-m2": "minimax_m2",
    "qwen2moe": "qwen2_moe",
    "qwen3moe": "qwen3_moe",
}
"""Where transformers calls an architecture otherwise (``load_gguf_checkpoint``)."""


@attrs.frozen(kw_only=True)
class GGUFTensor:
    """One tensor of a file.

    Attributes:
        shape: sizes as the file has them, the contiguous dimension first.
        offset: bytes from the beginning of the data.
        size: bytes that it takes; None for a type that the package gguf does not know.
    """

    shape: tuple[int, ...]
    offset: int
    size: int | None


@attrs.frozen(kw_only=True)
class GGUFHeader:
    """What a GGUF file says of itself.

    Attributes:
        scalars: the metadata but for arrays, by key.
        tensors: by name, in the order of the file.
        data_start: where the data of the tensors begin, in bytes.
    """

    scalars: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]
    data_start: int

    @property
    def architecture(self) -> str:
        """``general.architecture``."""
        return str(self.scalars.get("general.architecture", ""))

    @property
    def model_type(self) -> str:
        """The ``config.model_type`` that transformers gives it."""
        if "llama" in self.architecture and "mistral" in str(self.scalars.get("general.name", "")).lower():
            return "mistral"  # llama.cpp has one architecture for both
        return _MODEL_TYPES.get(self.architecture, self.architecture)

    @property
    def layer_count(self) -> int | None:
        """How many layers it says that it has."""
        count = self.scalars.get(f"{self.architecture}.block_count")
        return count if isinstance(count, int) else None

    @property
    def layers(self) -> frozenset[int]:
        """The layers of which it holds tensors."""
        found = (re.match(r"blk\.(\d+)\.", name) for name in self.tensors)
        return frozenset(int(match[1]) for match in found if match)

    @property
    def value_count(self) -> int:
        """How many values all tensors have together."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def end(self) -> int:
        """Bytes that the file must have."""
        ends = (tensor.offset + tensor.size for tensor in self.tensors.values() if tensor.size is not None)
        return self.data_start + max(ends, default=0)


def read_header(name: str, file: Path) -> GGUFHeader:
    """Read and judge the header of ``file``, which the user called ``name``.

    Raises:
        ModelNotFound: it is no GGUF file, or none that this reads; or it was cut short.
        UnusableModel: it does not hold the layers that it says it has.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            header = _Reader(stream, size).header()
    except (struct.error, ValueError, UnicodeDecodeError, OverflowError) as error:
        raise ModelNotFound(f"The model {name} cannot be loaded: it is no whole GGUF file ({error}).") from error
    if header.end > size:
        raise ModelNotFound(
            f"The model {name} cannot be loaded: the file was cut short, {size:,} of {header.end:,} bytes are there. "
            f"Download or copy it again."
        )
    _refuse_other_layers(name, header)
    return header


def _refuse_other_layers(name: str, header: GGUFHeader) -> None:
    count = header.layer_count
    if count is None:
        return
    if beyond := sorted(n for n in header.layers if n >= count):
        raise UnusableModel(
            f"The GGUF file {name} has more layers than its header says ({header.architecture}.block_count {count}): "
            f"blk.{beyond[0]}" + (f" and {len(beyond) - 1} more" if beyond[1:] else "") + " would be lost."
        )
    if len(header.layers) < count:
        lacking = next(n for n in range(count) if n not in header.layers)
        raise UnusableModel(
            f"The GGUF file {name} is damaged: its header says {count} layers, and it lacks all of blk.{lacking}"
            + (f" and of {count - len(header.layers) - 1} more." if count - len(header.layers) > 1 else ".")
        )


class _Reader:
    """Reads values one after another, never beyond the end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.stream, self.size = stream, size

    def header(self) -> GGUFHeader:
        if self.take(4) != b"GGUF":
            raise ValueError("it does not begin with 'GGUF'")
        (version,) = self.unpack("I")
        if version not in (2, 3):
            raise ValueError(f"version {version} of the format, and 2 and 3 are read")
        tensor_count, key_count = self.unpack("QQ")
        scalars = dict(pair for _ in range(key_count) if (pair := self.pair())[1] is not None)
        infos = [self.info() for _ in range(tensor_count)]
        alignment = scalars.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"general.alignment is {alignment!r}")
        start = -(-self.stream.tell() // alignment) * alignment
        tensors = dict(infos)
        if len(tensors) < len(infos):
            raise ValueError("two tensors have one name")
        return GGUFHeader(scalars=scalars, tensors=tensors, data_start=start)

    def take(self, count: int) -> bytes:
        if count > self.size - self.stream.tell():
            raise ValueError("it ends in the middle of its header")
        return self.stream.read(count)

    def unpack(self, kinds: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{kinds}", self.take(struct.calcsize(f"<{kinds}")))

    def string(self) -> str:
        return self.take(self.unpack("Q")[0]).decode()

    def pair(self) -> tuple[str, Any]:
        """A key and its value; None for an array, which is passed over."""
        return self.string(), self.value(self.unpack("I")[0], 0)

    def value(self, kind: int, depth: int) -> Any:
        if kind in _SCALARS:
            return self.unpack(_SCALARS[kind])[0]
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY or depth == _NESTING:
            raise ValueError(f"a value of the unknown kind {kind}")
        self.pass_over_array(depth)
        return None

    def pass_over_array(self, depth: int) -> None:
        kind, count = self.unpack("IQ")
        if kind in _SCALARS:
            self.pass_over(struct.calcsize(f"<{_SCALARS[kind]}") * count)
        elif kind == _STRING:
            for _ in range(count):
                self.pass_over(self.unpack("Q")[0])
        else:
            for _ in range(count):
                self.value(kind, depth + 1)

    def pass_over(self, count: int) -> None:
        if count > self.size - self.stream.tell():
            raise ValueError("it ends in the middle of its header")
        self.stream.seek(count, 1)

    def info(self) -> tuple[str, GGUFTensor]:
        name, (dimensions,) = self.string(), self.unpack("I")
        if dimensions > 8:
            raise ValueError(f"the tensor {name!r:.100} has {dimensions} dimensions")
        shape = self.unpack(f"{dimensions}Q")
        kind, offset = self.unpack("IQ")
        return name, GGUFTensor(shape=shape, offset=offset, size=_bytes(kind, math.prod(shape)))


def _bytes(kind: int, count: int) -> int | None:
    """What ``count`` values of a type take; None for an unknown one."""
    try:
        per_block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType(kind)]
    except (ValueError, KeyError):
        return None
    return count // per_block * block_bytes
