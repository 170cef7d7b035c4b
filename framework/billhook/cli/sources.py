"""What ``--calibration`` says: one source, or several with their weights. Imports torch, as ``opening`` does."""

from __future__ import annotations

import os
from collections.abc import Sequence

from billhook.data.blend import Blend
from billhook.data.shipped import TEXTS


def source_of(given: Sequence[str] | None) -> object:
    """The source that a calibration takes.

    Args:
        given: ``SOURCE`` or ``SOURCE=WEIGHT`` strings; texts that come with billhook if none. The weight of a single
            source changes nothing.

    Raises:
        InvalidConfig: a weight is not above 0, or a source comes twice.
    """
    parts = [weighed(text) for text in given or [TEXTS]]
    return parts[0][0] if len(parts) == 1 and parts[0][1] > 0 else Blend(parts)


def weighed(text: str) -> tuple[str, float]:
    """The source and its weight, 1 if none is said; a file whose name looks like both is a file."""
    source, equals, weight = text.rpartition("=")
    if not equals or os.path.exists(os.path.expanduser(text)):
        return text, 1
    try:
        number = float(weight)
    except ValueError:
        return text, 1
    return source, int(number) if number.is_integer() else number
