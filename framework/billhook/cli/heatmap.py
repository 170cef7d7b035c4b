"""All window distances as a picture. matplotlib is optional and imported when something is drawn."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import TYPE_CHECKING

from billhook.errors import InvalidConfig

if TYPE_CHECKING:
    from billhook.measures.windows import WindowDistances

LABELS = {"cosine": "1 − cosine", "angular": "angle in half-turns", "l2": "Euclidean distance"}


def check_picture(file: Path) -> None:
    """Raise :class:`InvalidConfig` if no picture can be drawn into ``file``, before anything is measured for it."""
    if importlib.util.find_spec("matplotlib") is None:
        raise InvalidConfig("A heat map is drawn by matplotlib, which is not installed: pip install billhook[plot]")
    if file.suffix.lower() != ".png":
        raise InvalidConfig(f"The heat map is a PNG picture: name the file FILE.png; got {file}.")
    if not file.absolute().parent.is_dir():
        raise InvalidConfig(f"The heat map cannot be written: the folder {file.absolute().parent} does not exist.")


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
    try:
        figure.savefig(file, dpi=120)
    except OSError as error:
        raise InvalidConfig(f"The heat map cannot be written to {file}: {error}") from error
