"""``billhook prune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from billhook.budget import Budget
from billhook.cli import options
from billhook.errors import InvalidConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from billhook.cli.inputs import Opened
    from billhook.estimator import Estimator
    from billhook.merger import Merger
    from billhook.pruner import Pruner
    from billhook.result import PruneResult
    from billhook.roles import Strategy

AMOUNT = "How much (exactly one)"
STRATEGIES = "How"

FIXED_WINDOWS = "billhook:fixed-windows"
"""The selector behind ``--window``."""

Span = tuple[int, int]


def command(
    model: options.Model,
    out: options.Out = None,
    layers: Annotated[int | None, typer.Option(help="Drop this many layers.", rich_help_panel=AMOUNT)] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Drop at least this share of the parameters.", rich_help_panel=AMOUNT)
    ] = None,
    window: Annotated[
        list[str] | None,
        typer.Option(
            metavar="START:STOP",
            help="Drop these layers, 0-based, without STOP; may be repeated.",
            rich_help_panel=AMOUNT,
            show_default=False,
        ),
    ] = None,
    of: Annotated[
        Literal["all", "backbone"],
        typer.Option(help="What --ratio is a share of: with or without embeddings and head.", rich_help_panel=AMOUNT),
    ] = "all",
    selector: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Chooses.", rich_help_panel=STRATEGIES, show_default="cosine"),
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Repairs.", rich_help_panel=STRATEGIES, show_default="least-squares"),
    ] = None,
    merger: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Puts the repair in.", rich_help_panel=STRATEGIES, show_default="fold"),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Measured before and after.", rich_help_panel=STRATEGIES),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="ROLE.OPTION=VALUE",
            help="Set an option of a strategy: selector.windows=2; may be repeated.",
            rich_help_panel=STRATEGIES,
            show_default=False,
        ),
    ] = None,
    calibration: options.CalibrationSource = "builtin",
    samples: options.Samples = 128,
    seqlen: options.Seqlen = 512,
    seed: options.Seed = 0,
    packing: options.Packing = "pack",
    chat_template: options.ChatTemplate = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    cache_mib: options.CacheMib = None,
    overwrite: options.Overwrite = False,
    verify: options.Verify = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only choose: print the plan, write nothing.", rich_help_panel=options.OUTPUT),
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Drop layers of MODEL, repair each cut in closed form, and save the smaller model.

    billhook plugins lists the strategies. Nothing is trained and MODEL stays as it is.
    """
    spans = parse_windows(window or [])
    budget = how_much(layers, ratio, spans, of)
    if spans and selector:
        raise InvalidConfig("--window says which layers go, so there is nothing to select: leave out --selector.")
    if out is None and not dry_run:
        raise InvalidConfig("There is no folder to write to: give --out DIR, or --dry-run to see the plan only.")

    from billhook.calibration import Calibration
    from billhook.cli import inputs, output
    from billhook.cli.progress import ProgressBars
    from billhook.pruner import Pruner

    if out is not None:
        inputs.check_output(out, overwrite, model)
    settings = inputs.parse_settings(setting or [])
    if spans:
        selector = FIXED_WINDOWS
        settings.setdefault("selector", {})["spans"] = spans
    chosen = inputs.strategies(
        {"selector": selector, "estimator": estimator, "merger": merger, "objective": objective}, settings
    )
    cache = inputs.cache_budget(cache_mib)
    data = Calibration(
        source=calibration, samples=samples, seqlen=seqlen, seed=seed, packing=packing, chat_template=chat_template
    )

    with ProgressBars() as bars:
        pruner = Pruner(**chosen, hooks=[bars], cache=cache)  # type: ignore[arg-type] # each under its role's name
        with bars.step("loading"):
            opened = inputs.open_model(
                model,
                data,
                dtype=dtype,
                device=device,
                check=lambda empty: _refuse_impossible(empty, budget, spans, chosen),
            )
        path = None
        if dry_run or out is None:
            result = _only_choose(pruner, opened, budget)
        else:
            result = pruner.prune(opened.model, opened.tokenizer, calibration=opened.calibration, budget=budget)
            with bars.step("saving"):
                path = inputs.save(result, out, overwrite=overwrite, verify=verify)
    output.print_result(result, path, bars.seconds, as_json=json)


def _refuse_impossible(
    empty: PreTrainedModel, budget: Budget, spans: Sequence[Span], chosen: Mapping[str, Strategy]
) -> None:
    """Refuse what ``empty``, a model without weights, shows cannot be done."""
    from billhook.cli import inputs
    from billhook.drop_layers import DropLayers
    from billhook.pruner import refuse_unmergeable

    view = inputs.view_of(empty)
    budget.layer_count(view)
    refuse_unmergeable(view, cast("Estimator", chosen["estimator"]), cast("Merger", chosen["merger"]))
    for span in spans:
        DropLayers(*span).check(view)


def _only_choose(pruner: Pruner, opened: Opened, budget: Budget) -> PruneResult:
    """A run without repairs, whose plan names the estimator that was asked for."""
    import attrs

    unrepaired = attrs.evolve(pruner, estimator="billhook:identity")
    result = unrepaired.prune(opened.model, opened.tokenizer, calibration=opened.calibration, budget=budget)
    asked = pruner.registry.spec("estimator", cast("Estimator", pruner.estimator))
    return attrs.evolve(result, plan=attrs.evolve(result.plan, estimator=asked), reports=())


def parse_windows(given: Sequence[str]) -> list[Span]:
    """``START:STOP`` strings as spans."""
    return [_parse_window(text) for text in given]


def _parse_window(text: str) -> Span:
    try:
        start, stop = (int(number) for number in text.split(":"))
    except ValueError as error:
        raise InvalidConfig(f"A window is START:STOP, for instance 15:19; got {text!r}.") from error
    if not 0 <= start < stop:
        raise InvalidConfig(f"A window needs 0 <= START < STOP (STOP itself stays); got {text!r}.")
    return start, stop


def how_much(layers: int | None, ratio: float | None, spans: Sequence[Span], of: Literal["all", "backbone"]) -> Budget:
    """The budget that exactly one of the three says."""
    given = [
        name
        for name, value in (("--layers", layers), ("--ratio", ratio), ("--window", spans or None))
        if value is not None
    ]
    if len(given) != 1:
        raise InvalidConfig(
            f"How much goes is said by one of --layers, --ratio or --window; got {' and '.join(given) or 'none'}."
        )
    if spans:
        return Budget(layers=sum(stop - start for start, stop in spans))
    return Budget(layers=layers, parameters=ratio, of=of)
