"""English text that needs no download: the topics of Python's own help system."""

from __future__ import annotations

from pydoc_data.topics import topics

EVALUATION_SHARE = 0.2
"""Share of the text kept for evaluation; calibration never sees it."""


def default_text(part: str) -> str:
    """About 460,000 characters in all: prose on Python, with some code.

    Args:
        part: ``calibration`` for the beginning, ``evaluation`` for the rest.
    """
    whole = [topics[name] for name in sorted(topics)]
    split = round(len(whole) * (1 - EVALUATION_SHARE))
    return "\n\n".join(whole[:split] if part == "calibration" else whole[split:])
