"""Tokens: calibration or evaluation data, ready for a model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import attrs
import torch
from torch import Tensor

from billhook.data.id_rows import id_rows
from billhook.data.record import PartRecord
from billhook.errors import CalibrationError


@attrs.frozen(eq=False)
class TokenBatch:
    """Some rows of tokens.

    Attributes:
        ids: ``[batch, seq]`` int64.
        keep: ``[batch, seq]`` bool, False on padding.
    """

    ids: Tensor
    keep: Tensor

    @property
    def attention_mask(self) -> Tensor | None:
        """``keep`` as int64 for transformers; None when nothing is padded, which takes the fast path."""
        return None if bool(self.keep.all()) else self.keep.long()

    @property
    def token_count(self) -> int:
        """Tokens that are not padding."""
        return int(self.keep.sum())

    def to(self, device: torch.device) -> TokenBatch:
        """On another device."""
        return TokenBatch(self.ids.to(device), self.keep.to(device))


@attrs.frozen(eq=False)
class Tokens:
    """All rows of a data set, on the CPU.

    Attributes:
        ids: ``[rows, seq]`` int64.
        keep: ``[rows, seq]`` bool, False on padding.
        source: where they came from, in words.
        parts: of which sources, if there are several, or if the model wrote them.
    """

    ids: Tensor
    keep: Tensor
    source: str = "token ids"
    parts: tuple[PartRecord, ...] = ()

    def __attrs_post_init__(self) -> None:
        if self.ids.ndim != 2 or self.ids.shape != self.keep.shape or self.ids.numel() == 0:
            raise CalibrationError(
                f"Tokens are ids and keep of one shape [rows, seq], not empty; "
                f"got {list(self.ids.shape)} and {list(self.keep.shape)}."
            )
        if self.ids.is_floating_point() or self.keep.dtype != torch.bool:
            raise CalibrationError(
                f"Token ids must be integers and keep bool; got {self.ids.dtype} and {self.keep.dtype}."
            )
        if not bool(self.keep.any()):
            raise CalibrationError("All tokens are padding.")

    @classmethod
    def from_batches(cls, batches: Tensor | Iterable[object]) -> Tokens:
        """Ready batches, ``[batch, seq]`` each: tensors, arrays or lists of ids, mappings with ``input_ids`` and
        perhaps ``attention_mask``, or :class:`TokenBatch`. Rows of different length are padded on the right.

        Raises:
            CalibrationError: nothing given, or the shapes do not fit.
        """
        parts = [_as_batch(b) for b in ([batches] if isinstance(batches, Tensor) else batches)]
        if not parts:
            raise CalibrationError("No token batches were given.")
        seq = max(part.ids.shape[1] for part in parts)
        ids = torch.cat([_pad(part.ids, seq) for part in parts])
        return cls(ids=ids, keep=torch.cat([_pad(part.keep, seq) for part in parts]), source="token batches")

    @property
    def token_count(self) -> int:
        """Tokens that are not padding."""
        return int(self.keep.sum())

    @property
    def fingerprint(self) -> str:
        """SHA-256 over shape, ids and mask: equal exactly when the data are."""
        digest = hashlib.sha256(repr(tuple(self.ids.shape)).encode())
        digest.update(self.ids.to(torch.int64).contiguous().numpy().tobytes())
        digest.update(self.keep.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def some(self, tokens: int | None) -> Tokens:
        """As many rows as it takes for ``tokens`` positions, spread evenly over the data; all if None, or if fewer."""
        count, seq = self.ids.shape
        if tokens is None or tokens >= count * seq:
            return self
        picked = torch.linspace(0, count - 1, -(-tokens // seq)).round().long().unique()
        return attrs.evolve(self, ids=self.ids[picked], keep=self.keep[picked])

    def batches(self, tokens_per_batch: int = 4096) -> tuple[TokenBatch, ...]:
        """Rows in order, grouped so that a batch has about ``tokens_per_batch`` positions, at least one row."""
        rows = max(1, tokens_per_batch // self.ids.shape[1])
        return tuple(
            TokenBatch(ids, keep) for ids, keep in zip(self.ids.split(rows), self.keep.split(rows), strict=True)
        )

    def __iter__(self) -> Iterator[TokenBatch]:
        return iter(self.batches())


def _as_batch(batch: object) -> TokenBatch:
    return batch.to(torch.device("cpu")) if isinstance(batch, TokenBatch) else TokenBatch(*id_rows(batch))


def _pad(rows: Tensor, seq: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, seq - rows.shape[1]))
