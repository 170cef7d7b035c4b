"""What people hand over as data: loaders, tables and data sets of other libraries, as rows or records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from billhook.data.tokens import TokenBatch, Tokens
from billhook.errors import CalibrationError, first_line
from billhook.log import logger

TABLES = ("to_dicts", "to_pylist")
"""How the tables of polars and Arrow give their rows as mappings."""


def keep(source: object) -> object:
    """What can be read only once (a generator) or is a shape of its own (a loader, a table), as a list.

    Raises:
        CalibrationError: reading it fails.
    """
    try:
        if isinstance(source, TensorDataset):
            return [source.tensors]
        if isinstance(source, DataLoader):
            return [_by_row(batch) if source.collate_fn is default_collate else batch for batch in source]
        if isinstance(source, Iterator):
            return list(source)
        if type(source).__name__ == "DataFrame" and hasattr(source, "to_dict") and not hasattr(source, "to_dicts"):
            return cast("Any", source).to_dict("records")
        for method in TABLES:
            if callable(give := getattr(source, method, None)):
                return give()
        if isinstance(source, Dataset) and not isinstance(source, Iterable) and hasattr(source, "__len__"):
            return [source[number] for number in range(len(cast("Any", source)))]
    except (CalibrationError, MemoryError):
        raise
    except Exception as error:  # somebody else's code: a collate function, a transform
        raise CalibrationError(
            f"The calibration data, a {type(source).__name__}, cannot be read: {type(error).__name__}: "
            f"{first_line(error)}"
        ) from error
    return source


def _by_row(batch: Any) -> Any:
    """What torch's own collating makes of lists of ids: a tensor for each position, of all rows; made rows again."""
    if isinstance(batch, Mapping):
        return {name: _by_row(values) for name, values in batch.items()}
    if isinstance(batch, list) and batch and all(isinstance(part, Tensor) and part.ndim == 1 for part in batch):
        return torch.stack(batch, dim=1)
    return batch


def ready_tokens(source: object) -> Tokens | None:
    """The rows of what holds token ids already; None for text, and for everything else.

    Raises:
        CalibrationError: ids of a shape or kind that no rows can be made of.
    """
    if isinstance(source, Tokens):
        return source
    if _is_flat(source):
        ids = cast("Sequence[int]", source)
        logger.warning("The token ids have one dimension: they are taken as one row of {}.", f"{len(ids):,}")
        return Tokens.from_batches([source])
    if not isinstance(source, list | tuple) and _is_batch(source):
        return Tokens.from_batches([source])
    if isinstance(source, str | bytes) or not isinstance(source, Iterable):
        return None
    return Tokens.from_batches(source) if _holds_ids(source) else None


def _is_flat(source: object) -> bool:
    """One row of ids without a dimension for rows."""
    if isinstance(source, Tensor | np.ndarray):
        return source.ndim == 1 and not _is_text(source)
    return isinstance(source, list | tuple) and bool(source) and _is_id(source[0])


def _holds_ids(source: Iterable[object]) -> bool:
    """Whether its items are batches: seen from its columns, or else from the first."""
    columns = getattr(source, "column_names", None)
    if isinstance(columns, list):
        return "input_ids" in columns
    if isinstance(source, Mapping | set | frozenset):
        return False
    return _is_batch(next(iter(source), None))


def _is_batch(item: object) -> bool:
    if isinstance(item, Mapping):
        return "input_ids" in item
    if isinstance(item, list | tuple):
        return bool(item) and (_is_id(item[0]) or _is_batch(item[0]))
    return isinstance(item, Tensor | TokenBatch) or (isinstance(item, np.ndarray) and not _is_text(item))


def _is_id(item: object) -> bool:
    return isinstance(item, int | float | np.integer | np.floating) and not isinstance(item, bool)


def _is_text(array: Tensor | np.ndarray[Any, Any]) -> bool:
    """An array of strings, or of objects that may be some."""
    if isinstance(array, Tensor) or array.dtype.kind not in "USO":
        return False
    return array.dtype.kind != "O" or not array.size or not _is_batch(array.flat[0])
