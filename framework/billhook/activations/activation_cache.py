"""ActivationCache: activations kept under a byte budget, on the device, then in host memory, then on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable
from pathlib import Path
from types import TracebackType

import attrs
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from billhook.errors import InvalidConfig
from billhook.files.own_folder import OwnFolder
from billhook.log import logger
from billhook.value_kinds import refuse_other_kind, typed

MIB = 2**20

CacheKey = tuple[Hashable, ...]
"""What an entry is found by; the first item names its kind."""


@attrs.frozen(kw_only=True, field_transformer=typed)
class CacheBudget:
    """Bytes that may be used on each tier.

    Attributes:
        device: beside the model on its accelerator; ignored on the CPU, where ``host`` counts.
        host: in main memory (pinned where a GPU reads it).
        disk: in a temporary folder.
        folder: where that folder is made; the system's choice if None. One that a killed process has left there is
            deleted when the next is made.
    """

    device: int = 1024 * MIB
    host: int = 512 * MIB
    disk: int = 0
    folder: Path | None = None

    def __attrs_post_init__(self) -> None:
        for tier in ("device", "host", "disk"):
            if getattr(self, tier) < 0:
                raise InvalidConfig(f"The {tier!r} bytes of CacheBudget must not be negative.")


class ActivationCache:
    """A dictionary of tensors that refuses what does not fit.

    A tensor goes to the first tier with room and stays there: the readers go round in a fixed order, which is
    the one pattern where evicting the least recently used entry would always miss. What is refused is
    recomputed by the caller, so a small budget costs time, never correctness. Neither does a disk that is full,
    or whose folder is gone: the tier takes nothing more, a warning says so, and the caller recomputes.

    Use as a context manager, or call :meth:`close`, to free memory and delete the files.
    """

    def __init__(self, budget: CacheBudget | None = None) -> None:
        refuse_other_kind(budget, CacheBudget | None, "The budget of ActivationCache")
        self.budget = budget or CacheBudget()
        self.used = {"device": 0, "host": 0, "disk": 0}
        self._tensors: dict[CacheKey, Tensor | Path] = {}
        self._sizes: dict[CacheKey, tuple[str, int]] = {}
        self._folder: OwnFolder | None = None
        self._files = 0
        self._disk_failed = False

    def put(self, key: CacheKey, tensor: Tensor, *, instead_of: str | None = None) -> bool:
        """Keep ``tensor`` (any shape, dtype and device) under ``key``; False if no tier has room.

        A key that is there already keeps its tensor. The tensor must not be written to afterwards. Entries of
        the kind ``instead_of`` are thrown out, latest first, until there is room.
        """
        if key in self._tensors:
            return True
        size = tensor.numel() * tensor.element_size()
        tier = self._tier_for(tensor, size)
        while tier is None and (victim := self._latest(instead_of)) is not None:
            self.discard(victim)
            tier = self._tier_for(tensor, size)
        stored = None if tier is None else self._store(tensor, tier)
        if tier is None or stored is None:
            return False
        self._tensors[key] = stored
        self._sizes[key] = (tier, size)
        self.used[tier] += size
        return True

    def get(self, key: CacheKey, device: torch.device) -> Tensor | None:
        """The tensor under ``key`` on ``device``, or None."""
        found = self._tensors.get(key)
        if found is None:
            return None
        if isinstance(found, Path):
            try:
                found = load_file(found)["activation"]
            except (OSError, SafetensorError) as error:
                self._give_up_disk(error)
                self.discard(key)
                return None
        return found.to(device, non_blocking=True)

    def __contains__(self, key: CacheKey) -> bool:
        return key in self._tensors

    def discard(self, key: CacheKey) -> None:
        """Forget ``key`` and give its bytes back."""
        found = self._tensors.pop(key, None)
        if found is None:
            return
        tier, size = self._sizes.pop(key)
        self.used[tier] -= size
        if isinstance(found, Path):
            with contextlib.suppress(OSError):  # the folder goes with all that is in it in the end
                found.unlink()

    def discard_kind(self, kind: str) -> None:
        """Forget every entry of a kind."""
        while (key := self._latest(kind)) is not None:
            self.discard(key)

    def close(self) -> None:
        """Forget everything and delete the files. The cache can be used again."""
        self._tensors.clear()
        self._sizes.clear()
        self.used = dict.fromkeys(self.used, 0)
        if self._folder is not None:
            self._folder.close()
            self._folder = None
        self._disk_failed = False

    def __enter__(self) -> ActivationCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _latest(self, kind: str | None) -> CacheKey | None:
        return next((key for key in reversed(self._tensors) if key[0] == kind), None)

    def _tier_for(self, tensor: Tensor, size: int) -> str | None:
        tiers = ["host"] if tensor.device.type == "cpu" else ["device", "host"]
        tiers += [] if self._disk_failed else ["disk"]
        return next((t for t in tiers if self.used[t] + size <= getattr(self.budget, t)), None)

    def _store(self, tensor: Tensor, tier: str) -> Tensor | Path | None:
        tensor = tensor.detach()
        if tier == "device" or (tier == "host" and tensor.device.type == "cpu"):
            whole = tensor.untyped_storage().nbytes() <= tensor.numel() * tensor.element_size()
            return tensor if whole else tensor.clone()  # a view would keep more bytes alive than were counted
        if tier == "host":
            pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")
            return pinned.copy_(tensor)
        try:
            return self._write(tensor)
        except (OSError, SafetensorError) as error:
            self._give_up_disk(error)
            return None

    def _write(self, tensor: Tensor) -> Path:
        if self._folder is None:
            self._folder = OwnFolder("activations", self.budget.folder)
        self._files += 1
        path = self._folder.path / f"{self._files}.safetensors"
        try:
            save_file({"activation": tensor.cpu().contiguous()}, path)
        except BaseException:
            with contextlib.suppress(OSError):
                path.unlink()  # half of it, by an older safetensors
            raise
        return path

    def _give_up_disk(self, error: Exception) -> None:
        if not self._disk_failed:
            self._disk_failed = True
            logger.warning(
                "The disk tier of the activation cache takes nothing more ({}): what does not fit elsewhere is "
                "computed again. Make room, or name another folder in CacheBudget, to save that time.",
                str(error).removeprefix("Error while serializing: ").partition(" at path")[0],
            )
