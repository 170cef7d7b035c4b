"""``billhook prune``."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from billhook.cli import options
from billhook.errors import InvalidConfig
from billhook.plans.budget import Budget

if TYPE_CHECKING:
    from billhook.cli.opening import Opened
    from billhook.cli.settings import Settings
    from billhook.plugins.registry import Registry
    from billhook.pruning.pruner import Pruner
    from billhook.results.result import PruneResult
    from billhook.roles.estimator import Estimator
    from billhook.roles.recipe import Recipe
    from billhook.roles.role import Role, Strategy
    from billhook.roles.selector import Selector

AMOUNT = "How much (exactly one)"
STRATEGIES = "How"

OF_RECIPE = "the recipe's"

FIXED_WINDOWS = "billhook:fixed-windows"
"""The selector behind ``--window``."""

Span = tuple[int, int]


def command(
    model: options.Model,
    out: options.Out = None,
    layers: Annotated[
        int | None, typer.Option(help="Drop this many layers; by a recipe that drops layers.", rich_help_panel=AMOUNT)
    ] = None,
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
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The method to follow; what is named below takes the place of its parts.",
            rich_help_panel=STRATEGIES,
            show_default="billhook",
        ),
    ] = None,
    selector: Annotated[str | None, options.strategy("Chooses.", STRATEGIES, OF_RECIPE)] = None,
    estimator: Annotated[str | None, options.strategy("Repairs.", STRATEGIES, OF_RECIPE)] = None,
    merger: Annotated[str | None, options.strategy("Puts the repair in.", STRATEGIES, OF_RECIPE)] = None,
    objective: Annotated[str | None, options.strategy("Searched by; measured before and after.", STRATEGIES)] = None,
    setting: Annotated[
        list[str] | None,
        options.settings("Set an option of a strategy: selector.windows=2; may be repeated.", STRATEGIES),
    ] = None,
    uniform: Annotated[
        bool,
        typer.Option("--uniform", help="Keep all layers alike, for a stock checkpoint.", rich_help_panel=STRATEGIES),
    ] = False,
    race: Annotated[
        bool,
        typer.Option("--race", help="Search quicker: most candidates on little data.", rich_help_panel=STRATEGIES),
    ] = False,
    plugin: options.PluginFiles = None,
    calibration: options.CalibrationSource = None,
    guard: Annotated[str | None, options.guard("self; builtin where self is calibrated on")] = None,
    samples: options.Samples = 128,
    seqlen: options.Seqlen = 512,
    seed: options.Seed = 0,
    packing: options.Packing = "pack",
    chat_template: options.ChatTemplate = False,
    begin: options.Begin = True,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    tokenizer: options.Tokenizer = None,
    cache_mib: options.CacheMib = None,
    overwrite: options.Overwrite = False,
    verify: options.Verify = True,
    pad: options.Pad = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where a search writes its decisions, to go on from after an interruption.",
            rich_help_panel=options.OUTPUT,
            show_default="DIR.journal.jsonl",
        ),
    ] = None,
    no_journal: Annotated[
        bool, typer.Option("--no-journal", help="Search without one.", rich_help_panel=options.OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only choose: print the plan, write nothing.", rich_help_panel=options.OUTPUT),
    ] = False,
    json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Make MODEL smaller, repair each cut in closed form where its method does, and save the result.

    Without --recipe, by billhook's own: of all MLPs the channels that the loss and the others miss least go, and every
    writer is solved anew. billhook recipes lists the others, which drop layers, branches or heads; billhook plugins
    lists the strategies.
    Nothing is trained and MODEL stays as it is.
    """
    spans = parse_windows(window or [])
    budget = how_much(layers, ratio, spans, of)
    if spans and selector:
        raise InvalidConfig("--window says which layers go, so there is nothing to select: leave out --selector.")
    if out is None and not dry_run:
        raise InvalidConfig("There is no folder to write to: give --out DIR, or --dry-run to see the plan only.")

    import attrs

    from billhook.cli import opening, output, refusals, saving
    from billhook.cli.progress import ProgressBars
    from billhook.cli.search_journal import SearchJournal
    from billhook.cli.settings import parse_settings, repair_with
    from billhook.cli.sources import source_of
    from billhook.cli.taking_part import prepared
    from billhook.data.calibration import Calibration
    from billhook.pruning.applying import needs_data
    from billhook.pruning.method import DEFAULT_RECIPE
    from billhook.pruning.pruner import Pruner
    from billhook.pruning.refusals import refuse_layers

    place = None if out is None else saving.check_output(out, overwrite, model)
    names: dict[Role, str | None] = {
        "selector": FIXED_WINDOWS if spans else selector,
        "estimator": estimator,
        "merger": merger,
        "objective": objective,
    }
    registry, names = prepared(plugin, names)
    settings = parse_settings(setting or [])
    if recipe is None:
        refuse_layers(names["selector"], budget)
    followed = registry.recipe(DEFAULT_RECIPE if recipe is None else recipe)
    chosen = _strategies(followed, names, settings, spans, registry, uniform=uniform, race=race)
    pruner = Pruner.following(
        followed,
        **chosen,
        repair=repair_with(settings, followed.repair),
        cache=opening.cache_budget(cache_mib),
        registry=registry,
    )
    method = pruner.method()
    kept_in = _journal(method.selector, out, journal, no_journal, dry_run)
    data = Calibration(
        source=source_of(calibration),
        samples=samples,
        seqlen=seqlen,
        seed=seed,
        packing=packing,
        chat_template=chat_template,
        guard=guard,
        begin=begin,
    )

    idle = bool(spans) and calibration is None and not needs_data(pruner)
    writing = contextlib.nullcontext() if dry_run or place is None else place
    with writing as taken, SearchJournal(kept_in) as kept, ProgressBars() as bars:
        pruner = attrs.evolve(pruner, hooks=[bars, kept], journal=kept.file)
        with bars.step("loading"):
            opened = opening.open_model(
                model,
                None if idle else data,
                dtype=dtype,
                device=device,
                check=lambda empty: refusals.refuse_impossible(empty, budget, spans, method, registry),
                registry=registry,
                progress=bars.billhook_on_progress,
                tokenizer=tokenizer,
            )
        path = None
        if taken is None:
            result = _without_data(_only_choose(pruner, opened, budget), idle)
        else:
            saving.require_room(taken, opened.model, budget, method.selector)
            result = pruner.prune(opened.model, opened.tokenizer, calibration=opened.calibration, budget=budget)
            result = _without_data(result, idle)
            again = [
                model,
                *opening.given_options(
                    calibration=calibration, dtype=dtype, device=device, tokenizer=tokenizer, plugin=plugin
                ),
                *(["--pad"] if pad else []),
            ]
            with bars.step("saving"):
                path = saving.save(result, taken, verify=verify, pad=pad, uniform=uniform, again=again)
            kept.finish()
    output.print_result(result, path, bars.seconds, as_json=json)


def _without_data(result: PruneResult, idle: bool) -> PruneResult:
    """Note in the plan that nothing looked at data, where that is so."""
    import attrs

    from billhook.data.record import NO_DATA

    return attrs.evolve(result, plan=attrs.evolve(result.plan, calibration=NO_DATA)) if idle else result


def _strategies(
    recipe: Recipe,
    names: Mapping[Role, str | None],
    settings: Settings,
    spans: Sequence[Span],
    registry: Registry,
    *,
    uniform: bool,
    race: bool,
) -> dict[str, Strategy]:
    """By role, what is named or else the recipe's; refuses what does not go together."""
    from billhook.cli import search_options
    from billhook.cli.settings import strategies_by_role

    if spans:
        settings.setdefault("selector", {})["spans"] = spans
    chosen = strategies_by_role(names, settings, recipe, registry)
    selector = cast("Selector", chosen["selector"])
    if uniform:
        selector = search_options.uniform(selector)
    if race:
        selector = search_options.racing(selector)
    return {**{str(role): strategy for role, strategy in chosen.items()}, "selector": selector}


def _journal(
    selector: Selector, out: Path | None, journal: Path | None, no_journal: bool, dry_run: bool
) -> Path | None:
    """Where this run keeps a journal; None for nowhere."""
    from billhook.cli.search_journal import beside, check_journal

    if journal is not None and no_journal:
        raise InvalidConfig("--journal and --no-journal contradict each other: leave one out.")
    if not selector.needs_objective():
        if journal is not None:
            raise InvalidConfig(f"A journal is for a search, and {selector!r} does not search: leave out --journal.")
        return None
    if journal is None and (no_journal or dry_run or out is None):
        return None
    path = journal or beside(cast("Path", out))
    check_journal(path, out)
    return path


def _only_choose(pruner: Pruner, opened: Opened, budget: Budget) -> PruneResult:
    """A run whose result is thrown away but for the plan.

    Without repairs, unless a search looks at the repaired model: the plan names the estimator that was asked for.
    """
    import attrs

    from billhook.plugins.versions import versions

    if cast("Selector", pruner.selector).needs_objective():
        return pruner.prune(opened.model, opened.tokenizer, calibration=opened.calibration, budget=budget)
    unrepaired = attrs.evolve(pruner, estimator="billhook:identity")
    result = unrepaired.prune(opened.model, opened.tokenizer, calibration=opened.calibration, budget=budget)
    asked = pruner.registry.spec("estimator", cast("Estimator", pruner.estimator))
    known = {**result.plan.versions, **versions(pruner.registry, [pruner.estimator])}
    named = attrs.evolve(result.plan, estimator=asked, versions=dict(sorted(known.items())))
    return attrs.evolve(result, plan=named, reports=())


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
