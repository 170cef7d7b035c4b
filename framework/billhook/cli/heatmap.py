"""All window distances as a picture. matplotlib is optional and imported when something is drawn."""

from __future__ import annotations

import importlib.util
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from billhook.errors import InvalidConfig
from billhook.files.whole_file import refuse_file, write_whole

if TYPE_CHECKING:
    from billhook.measures.windows import WindowDistances

MARK = b"Software\0billhook"
"""What the picture says of who drew it, as PNG writes it: by it a heat map is known again, and may be replaced."""

LABELS = {"cosine": "1 − cosine", "angular": "angle in half-turns", "l2": "Euclidean distance"}


def check_picture(file: Path) -> None:
    """Refuse what no picture can be drawn into, before anything is measured for it. An earlier one is replaced.

    Raises:
        InvalidConfig: matplotlib is not there, or it is no name for a picture.
        OutputExists: something else is there.
        CheckpointError: no file can be made there.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise InvalidConfig("A heat map is drawn by matplotlib, which is not installed: pip install billhook[plot]")
    if file.suffix.lower() != ".png":
        raise InvalidConfig(f"The heat map is a PNG picture: name the file FILE.png; got {file}.")
    refuse_file(file, overwrite=True, is_ours=_is_heat_map, what="heat map")


def draw(distances: WindowDistances, file: Path, *, title: str) -> None:
    """Write the picture: a column for each first layer, a row for each length; a ring marks each row's nearest."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    lengths = range(1, distances.layer_count)
    grid = [[math.nan] * distances.layer_count for _ in lengths]
    for length in lengths:
        for start, distance in distances.of_length(length):
            grid[length - 1][start] = distance
    positive = [value for row in grid for value in row if value > 0]

    figure = Figure(figsize=(9, 7), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(
        grid,
        origin="lower",
        aspect="auto",
        cmap="viridis",
        extent=(-0.5, distances.layer_count - 0.5, 0.5, distances.layer_count - 0.5),
        norm=LogNorm(min(positive), max(positive)) if positive else None,
    )
    nearest = [min(row, key=lambda pair: pair[1]) for row in map(distances.of_length, lengths) if row]
    axes.scatter(
        [start for start, _ in nearest],
        lengths,
        label="nearest of its length",
        s=22,
        facecolors="none",
        edgecolors="red",
        linewidths=1.2,
    )
    axes.legend(loc="upper right")
    axes.set(title=title, xlabel="first layer of the window", ylabel="layers in the window")
    figure.colorbar(picture, ax=axes, label=LABELS[distances.metric])
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120, metadata={"Software": "billhook"})
    write_whole(file, drawn.getvalue(), overwrite=True, what="heat map")


def _is_heat_map(file: Path) -> bool:
    with file.open("rb") as picture:
        return MARK in picture.read(1024)
