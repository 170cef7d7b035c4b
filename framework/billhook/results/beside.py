"""Beside: folders next to a place that belong to it, and by whose names the next run knows them."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Literal

import attrs

LONGEST_NAME = 200
"""Bytes of a name that is a part of other names; file systems take 255."""

_RANDOM = "[a-z0-9_]{8}"
"""What ``mkdtemp`` adds to a name."""

Kind = Literal["partial", "old", "swap"]
"""A draft; an old checkpoint; one of the two, while they change places."""


@attrs.frozen
class Beside:
    """The hidden neighbours of a folder: ``.NAME-RANDOM.KIND``, and ``.NAME.billhook.lock``.

    Attributes:
        place: the folder, absolute; it need not be there.
    """

    place: Path

    @property
    def lock(self) -> Path:
        """The file that whoever works on the place has locked."""
        return self.place.with_name(f"{self._stem}.billhook.lock")

    def make(self, kind: Kind) -> Path:
        """A new folder, empty and private."""
        return Path(tempfile.mkdtemp(prefix=f"{self._stem}-", suffix=f".{kind}", dir=self.place.parent))

    def found(self, *kinds: Kind) -> list[Path]:
        """Folders of these kinds that are there, made by this run or another."""
        named = re.compile(rf"{re.escape(self._stem)}-{_RANDOM}\.({'|'.join(kinds)})")
        try:
            return sorted(f for f in self.place.parent.iterdir() if named.fullmatch(f.name) and not f.is_symlink())
        except OSError:
            return []

    @property
    def _stem(self) -> str:
        """How their names begin; a name that is too long to be part of others by its hash."""
        name = self.place.name
        encoded = os.fsencode(name)
        if len(encoded) <= LONGEST_NAME:
            return f".{name}"
        return f".{name[:40]}~{hashlib.sha256(encoded).hexdigest()[:16]}"
