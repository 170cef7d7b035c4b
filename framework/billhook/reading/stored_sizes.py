"""The sizes of a folder's weights against those that its config asks for, before any memory is taken.

transformers makes room for a weight of another size first, as large as the config says, and reports it afterwards.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import safe_open
from transformers import PreTrainedModel

from billhook.errors import UnusableModel, is_out_of_memory
from billhook.reading.loading_report import refuse_mismatched

_LARGEST_VALUE = 8
"""Bytes of one value in the widest dtype that torch loads, float64."""


def refuse_other_sizes(name: str, folder: Path, skeleton: PreTrainedModel) -> None:
    """Turn away a folder with weights that have other numbers of elements than the model of its config.

    Weights that go by other names in the file than in the model are left to the report of the loading, and so are
    those of another shape with as many elements: transformers turns some while it loads.

    Args:
        name: what the user called it.
        folder: with safetensors files; one that has none passes.
        skeleton: the model without its weights, built from the folder's config.

    Raises:
        UnusableModel: names the first weight, its shape in the file, and that of the config.
    """
    wanted: Mapping[str, tuple[int, ...]] = {path: tuple(w.shape) for path, w in skeleton.state_dict().items()}
    other = [
        (path, shape, wanted[path])
        for path, shape in _stored(folder)
        if path in wanted and math.prod(shape) != math.prod(wanted[path])
    ]
    if other:
        refuse_mismatched(name, sorted(other))


@contextmanager
def within_stored(name: str, stored: int) -> Iterator[None]:
    """Around the loading of a file with ``stored`` values whose config is only known once it is loaded: a GGUF file.

    Raises:
        UnusableModel: memory was missing for a single weight that is larger than all of the file unpacked.
    """
    try:
        yield
    except Exception as error:
        tried = re.search(r"tried to allocate (\d+) bytes", str(error)) if is_out_of_memory(error) else None
        if tried is None or int(tried[1]) <= stored * _LARGEST_VALUE:
            raise
        raise UnusableModel(
            f"The GGUF file {name} is not of its header's sizes: that asks for a weight of {int(tried[1]):,} bytes, "
            f"and all weights of the file are {stored:,} values."
        ) from error


def _stored(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the files that transformers reads: one file before several."""
    whole = folder / "model.safetensors"
    for file in [whole] if whole.is_file() else sorted(folder.glob("model-*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for path in stored.keys():  # noqa: SIM118 # not a mapping
                yield path, tuple(stored.get_slice(path).get_shape())
