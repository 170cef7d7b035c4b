"""``billhook analyze``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from billhook.cli import options
from billhook.errors import InvalidConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from billhook.cli.opening import Opened
    from billhook.cli.progress import ProgressBars
    from billhook.measures.windows import Metric, Which, WindowDistances
    from billhook.plugins.registry import Registry
    from billhook.roles.merger import Merger

DISTANCES = "Distances"


def command(
    model: options.Model,
    metric: Annotated[
        Literal["cosine", "angular", "l2"],
        typer.Option(help="1 − cosine, angle in half-turns, or Euclidean.", rich_help_panel=DISTANCES),
    ] = "cosine",
    tokens: Annotated[
        Literal["all", "last"],
        typer.Option(help="Average over all tokens, or the last of each row.", rich_help_panel=DISTANCES),
    ] = "all",
    skip_sink: Annotated[
        bool, typer.Option("--skip-sink", help="Leave out the first token of each row.", rich_help_panel=DISTANCES)
    ] = False,
    length: Annotated[
        int | None,
        typer.Option(help="List all windows of this many layers, nearest first.", rich_help_panel=options.OUTPUT),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Print every distance as a matrix.", rich_help_panel=options.OUTPUT)
    ] = False,
    heatmap: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw all distances as a picture.", rich_help_panel=options.OUTPUT),
    ] = None,
    plugin: options.PluginFiles = None,
    calibration: options.CalibrationSource = None,
    samples: options.Samples = 128,
    seqlen: options.Seqlen = 512,
    seed: options.Seed = 0,
    packing: options.Packing = "pack",
    chat_template: options.ChatTemplate = False,
    begin: options.Begin = True,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    tokenizer: options.Tokenizer = None,
    json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Measure how far every window of layers moves the residual stream: the near ones can go."""
    if length is not None and length < 1:
        raise InvalidConfig(f"The --length of a window must be at least 1; got {length}.")

    from billhook.cli import distances, opening, output
    from billhook.cli.heatmap import check_picture, draw
    from billhook.cli.progress import ProgressBars
    from billhook.cli.sources import source_of
    from billhook.cli.taking_part import registry_with
    from billhook.data.calibration import Calibration

    if heatmap is not None:
        check_picture(heatmap)
    registry = registry_with(plugin)
    data = Calibration(
        source=source_of(calibration),
        samples=samples,
        seqlen=seqlen,
        seed=seed,
        packing=packing,
        chat_template=chat_template,
        begin=begin,
    )

    def check(empty: PreTrainedModel) -> None:
        layers = len(opening.view_of(empty, registry).numbers)
        if length is not None and length > layers:
            raise InvalidConfig(f"There are no windows of {length} layers in a model of {layers}.")

    with ProgressBars() as bars:
        with bars.step("loading"):
            opened = opening.open_model(
                model,
                data,
                dtype=dtype,
                device=device,
                check=check,
                registry=registry,
                progress=bars.billhook_on_progress,
                tokenizer=tokenizer,
                measured=True,
            )
        check(opened.model)
        with bars.clock("measuring"):
            found = _measure(opened, bars, registry, metric, tokens, skip_sink)
    if heatmap is not None:
        draw(found, heatmap, title=f"{Path(model).name}: {metric} distance of windows of layers")
    about = {
        "model": model,
        "layers": found.layer_count,
        "metric": metric,
        "tokens": tokens,
        "skip_sink": skip_sink,
        "token_count": found.token_count,
        "source": opened.tokens.source,
        "seconds": bars.seconds,
        "heatmap": None if heatmap is None else str(heatmap),
    }
    if json:
        output.print_json({**about, "windows": distances.as_data(found)})
    else:
        output.show(*distances.tables(found, length, full, output.console().width), distances.facts(about))


def _measure(
    opened: Opened, bars: ProgressBars, registry: Registry, metric: Metric, tokens: Which, skip_sink: bool
) -> WindowDistances:
    from billhook.activations.activation_cache import CacheBudget
    from billhook.cli import opening
    from billhook.measures.windows import measure_windows
    from billhook.roles.state import PruningState

    state = PruningState(
        opening.view_of(opened.model, registry),
        opened.tokens,
        merger=cast("Merger", registry.create("merger", "billhook:fold")),
        cache=CacheBudget(device=0, host=0),  # every stream is needed once
        progress=bars.billhook_on_progress,
    )
    return measure_windows(state, metric=metric, tokens=tokens, skip_sink=skip_sink)
