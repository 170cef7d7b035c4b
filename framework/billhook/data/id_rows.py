"""Rows of ids from nested lists, arrays and pairs, of one length by padding."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from billhook.errors import CalibrationError


def id_rows(batch: object) -> tuple[Tensor, Tensor]:
    """The ids of one batch, and which of them are no padding.

    Args:
        batch: a tensor or array ``[batch, seq]`` or ``[seq]``; lists of ids, of one or of different lengths; a mapping
            with ``input_ids`` and perhaps ``attention_mask``; or a tuple or list of tensors that begins with the ids,
            as loaders give them: a second one of zeros and ones is the mask, and labels are left alone.

    Returns:
        ids ``[batch, seq]`` int64, and ``[batch, seq]`` bool, both on the CPU.

    Raises:
        CalibrationError: the shapes do not fit, or what should be ids is none.
    """
    ids, mask = _parts(batch)
    rows, filled = _matrix(ids)
    if rows.dtype == torch.bool or rows.is_floating_point() or rows.is_complex():
        raise CalibrationError(f"Token ids must be integers; got {str(rows.dtype).removeprefix('torch.')}.")
    if mask is not None:
        keep, _ = _matrix(mask)
        if rows.shape != keep.shape:
            raise CalibrationError(
                f"A token batch is [batch, seq] with a mask of that shape; got {list(rows.shape)} and "
                f"{list(keep.shape)}."
            )
        filled &= keep.bool()
    return rows.long(), filled


def _parts(batch: object) -> tuple[Any, Any]:
    """What the ids are, and the mask if there is one."""
    if isinstance(batch, Mapping) and "input_ids" in batch:
        return batch["input_ids"], batch.get("attention_mask")
    if isinstance(batch, list | tuple) and batch and isinstance((parts := list[Any](batch))[0], Tensor | np.ndarray):
        is_pair = len(parts) > 1 and getattr(parts[1], "shape", None) == parts[0].shape and _is_mask(*parts[:2])
        return parts[0], parts[1] if is_pair else None
    if isinstance(batch, Tensor | np.ndarray | list | tuple):
        return batch, None
    raise CalibrationError(f"A token batch is a tensor of ids or a mapping with input_ids; got {type(batch).__name__}.")


def _is_mask(ids: Any, values: Any) -> bool:
    values, ids = torch.as_tensor(values), torch.as_tensor(ids)
    return bool(((values == 0) | (values == 1)).all()) and not torch.equal(values.long(), ids.long())


def _matrix(values: Any) -> tuple[Tensor, Tensor]:
    """``[rows, seq]`` of numbers, and where they are; shorter rows are filled up on the right."""
    if isinstance(values, np.ndarray) and values.dtype.kind == "O":
        values = values.tolist()
    if isinstance(values, Sequence) and values and not isinstance(values[0], int | float | str | np.number):
        rows = [row for row in map(_row, values) if len(row)]
        if not rows:
            raise CalibrationError("A token batch has no ids: all its rows are empty.")
        seq = max(map(len, rows))
        keep = torch.arange(seq) < torch.tensor([[len(row)] for row in rows])
        return torch.stack([torch.nn.functional.pad(row, (0, seq - len(row))) for row in rows]), keep
    matrix = _numbers(values)
    matrix = matrix[None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2:
        raise CalibrationError(f"A token batch is [batch, seq] with a mask of that shape; got {list(matrix.shape)}.")
    return matrix, torch.ones_like(matrix, dtype=torch.bool)


def _row(values: Any) -> Tensor:
    row = _numbers(values)
    row = row[0] if row.ndim == 2 and len(row) == 1 else row
    if row.ndim != 1:
        raise CalibrationError(f"A row of token ids has one dimension; got {list(row.shape)}.")
    return row


def _numbers(values: Any) -> Tensor:
    try:
        if isinstance(values, Tensor):
            return values.detach().cpu()
        array = np.array(values)  # a copy: memory of others may be read-only
        if array.dtype.kind not in "biufc":
            raise TypeError(f"got {reprlib.repr(values)}")
        return torch.as_tensor(array) if array.size else torch.empty(array.shape, dtype=torch.long)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise CalibrationError(f"Token ids must be integers, in rows: {error}") from error
