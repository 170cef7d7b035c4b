"""``billhook apply``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from billhook.cli import options

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from billhook.cli.progress import ProgressBars
    from billhook.data.calibration import Calibration
    from billhook.interchange.published import Published
    from billhook.plans.plan import Plan
    from billhook.plugins.registry import Registry
    from billhook.pruning.pruner import Pruner
    from billhook.roles.role import Role

THE_PLANS = "the plan's"
PUBLISHED = "Published results"
REPAIRS = "Repair otherwise"


def command(
    plan: Annotated[
        Path,
        typer.Argument(
            metavar="PLAN",
            help="A plan file, the folder of a pruned checkpoint, or a file that MultiPruner or BlockPruner published.",
            show_default=False,
        ),
    ],
    model: options.Model,
    out: options.RequiredOut,
    calibration: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE[=WEIGHT]",
            help="Where the data are now, or other data; repeat it for a blend.",
            rich_help_panel=options.DATA,
            show_default=THE_PLANS,
        ),
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Rows of tokens.", rich_help_panel=options.DATA, show_default=THE_PLANS)
    ] = None,
    seqlen: Annotated[
        int | None, typer.Option(help="Tokens in a row.", rich_help_panel=options.DATA, show_default=THE_PLANS)
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Which rows are taken.", rich_help_panel=options.DATA, show_default=THE_PLANS)
    ] = None,
    guard: Annotated[str | None, options.guard(THE_PLANS)] = None,
    any_calibration: Annotated[
        bool,
        typer.Option(
            "--any-calibration",
            help="Accept other data than the plan was made with; the repairs then differ.",
            rich_help_panel=options.DATA,
        ),
    ] = False,
    estimator: Annotated[str | None, options.strategy("Repairs.", REPAIRS, THE_PLANS)] = None,
    merger: Annotated[str | None, options.strategy("Puts the repair in.", REPAIRS, THE_PLANS)] = None,
    objective: Annotated[str | None, options.strategy("Measured before and after.", REPAIRS, THE_PLANS)] = None,
    setting: Annotated[
        list[str] | None,
        options.settings(
            "Change an option of the estimator, the merger, the objective or the repair: repair.target=dense; may be "
            "repeated.",
            REPAIRS,
        ),
    ] = None,
    plugin: options.PluginFiles = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="How many removals of a BlockPruner list.", rich_help_panel=PUBLISHED, show_default="all of them"
        ),
    ] = None,
    reorder: Annotated[
        bool,
        typer.Option(help="Keep the units of the largest weight norm, or the first ones.", rich_help_panel=PUBLISHED),
    ] = True,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    tokenizer: options.Tokenizer = None,
    cache_mib: options.CacheMib = None,
    overwrite: options.Overwrite = False,
    verify: options.Verify = True,
    pad: options.Pad = False,
    json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Make the cuts of PLAN in MODEL again, repaired the same way or otherwise. On the same data: the same weights."""
    import attrs

    from billhook.cli import opening, output, saving
    from billhook.cli.progress import ProgressBars
    from billhook.cli.sources import source_of
    from billhook.cli.taking_part import prepared
    from billhook.interchange.published import Published
    from billhook.pruning import applying
    from billhook.pruning.pruner import Pruner

    place = saving.check_output(out, overwrite, model)
    asked: dict[Role, str | None] = {"estimator": estimator, "merger": merger, "objective": objective}
    registry, names = prepared(plugin, asked)  # before the plan, which needs them
    given = _read(plan, steps, reorder)
    base = Pruner(cache=opening.cache_budget(cache_mib), registry=registry)
    pruner = _pruner(given, names, setting or [], base)
    source = source_of(calibration) if calibration else None
    data = _data(given, pruner, any_calibration, source=source, samples=samples, seqlen=seqlen, seed=seed, guard=guard)
    with place, ProgressBars() as bars:
        with bars.step("loading"):
            loaded, words, data = _open(
                model,
                data,
                bars,
                registry,
                dtype=dtype,
                device=device,
                tokenizer=tokenizer,
                plan=given,
                moved=source is None,
            )
        result = applying.apply(
            given.plan(loaded, registry) if isinstance(given, Published) else given,
            loaded,
            words,
            calibration=data,
            pruner=attrs.evolve(pruner, hooks=[bars]),
            any_calibration=any_calibration,
        )
        with bars.step("saving"):
            path = saving.save(result, place, verify=verify, pad=pad)
    output.print_result(result, path, bars.seconds, as_json=json)


def _pruner(plan: Plan | Published, names: Mapping[Role, str | None], given: Sequence[str], base: Pruner) -> Pruner:
    """``base`` with the strategies and the repair that are named or set; whatever it is not given is the plan's.

    Raises:
        InvalidConfig: one is named or set that a plan has no place for, or of published results, which have none.
    """
    import attrs

    from billhook.cli.settings import parse_settings, repair_with
    from billhook.errors import InvalidConfig
    from billhook.interchange.published import Published
    from billhook.plans.strategy_spec import StrategySpec
    from billhook.plugins.plugin_file import is_reference
    from billhook.pruning.applying import pruner_for

    settings = parse_settings(given)
    if isinstance(plan, Published):
        if settings or any(names.values()):
            raise InvalidConfig(
                "The cuts of published results are made, and neither repaired nor measured: leave out --estimator, "
                "--merger, --objective and --set. To do so, apply the checkpoint that this makes, with them."
            )
        return base
    if others := [role for role in settings if role not in (*names, "repair")]:
        raise InvalidConfig(
            f"The plan says what goes: --set changes the estimator, the merger, the objective and the repair here; got "
            f"{others[0]!r}."
        )

    def spec(role: Role) -> StrategySpec | None:
        name, own = names[role], cast("StrategySpec | None", getattr(plan, role))
        if name and not (own and is_reference(name) and name == own.name):  # a class that is only said where to find
            own = StrategySpec(name=name)
        if own is None:
            if role in settings:
                raise InvalidConfig(f"The plan has no {role} whose options could be set. Add --{role} NAME.")
            return None
        return attrs.evolve(own, options={**own.options, **settings.get(role, {})})

    repair = repair_with(settings, plan.repair) if "repair" in settings else None
    changed: dict[str, Any] = {role: spec(role) for role in names}
    otherwise = pruner_for(attrs.evolve(plan, **changed), base)
    own = {role: getattr(otherwise, role) for role in names if names[role] or role in settings}
    return attrs.evolve(base, repair=repair, **own)  # what it is not given is the plan's


def _read(file: Path, steps: int | None, reorder: bool) -> Plan | Published:
    from billhook.errors import InvalidConfig
    from billhook.interchange.published import Published, is_published
    from billhook.plans.plan import Plan

    if is_published(file):
        return Published.load(file, steps=steps, reordered=reorder)
    plan = Plan.load(file)
    if steps is not None or not reorder:
        raise InvalidConfig(f"{file} is a plan of billhook; --steps and --no-reorder are for published results.")
    return plan


def _open(
    model: str,
    data: Calibration | None,
    bars: ProgressBars,
    registry: Registry,
    *,
    dtype: str,
    device: str,
    tokenizer: str | None,
    plan: Plan | Published,
    moved: bool,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None, Calibration | None]:
    """Load the model, and tokenise ``data`` if any; ``moved`` says that a missing text is the plan's, and may lie
    elsewhere."""
    from billhook.cli import opening
    from billhook.errors import CalibrationError
    from billhook.model import loading

    def check(empty: PreTrainedModel) -> None:
        _refuse_other_model(plan, empty, registry)

    if data is None:
        source = loading.find(model, dtype=dtype, device=device, tokenizer=tokenizer)
        if (skeleton := source.skeleton()) is not None:
            check(skeleton)
        words = source.tokenizer_if_any()
        return source.model(), words, None
    try:
        opened = opening.open_model(
            model,
            data,
            dtype=dtype,
            device=device,
            check=check,
            registry=registry,
            progress=bars.billhook_on_progress,
            tokenizer=tokenizer,
        )
    except CalibrationError as error:
        if not moved:
            raise
        raise CalibrationError(
            f"{error} The plan was made with it; say where it is now: --calibration SOURCE."
        ) from error
    return opened.model, opened.tokenizer, opened.calibration


def _refuse_other_model(plan: Plan | Published, empty: PreTrainedModel, registry: Registry) -> None:
    from billhook.cli import opening
    from billhook.interchange.published import Published
    from billhook.plans.plan import refuse_other_model

    if isinstance(plan, Published):
        plan.removals.unit_counts(opening.view_of(empty, registry))
    else:
        refuse_other_model(plan, empty)


def _data(plan: Plan | Published, pruner: Pruner, any_calibration: bool, **given: Any) -> Calibration | None:
    """The plan's calibration, with what was given in its place; None where no data are needed."""
    import attrs

    from billhook.data.calibration import Calibration
    from billhook.data.record import NO_DATA
    from billhook.errors import InvalidConfig
    from billhook.interchange.published import Published
    from billhook.pruning import applying

    changes = {name: value for name, value in given.items() if value is not None}
    idle = isinstance(plan, Published) or not applying.needs_data(applying.pruner_for(plan, pruner))
    if isinstance(plan, Published) or (idle and plan.calibration == NO_DATA):
        if changes or any_calibration:
            raise InvalidConfig("Nothing is repaired here, so no data are needed: leave out the calibration options.")
        return None
    if idle and not changes:
        return None
    without = plan.calibration == NO_DATA and "source" in changes
    return attrs.evolve(Calibration() if without else applying.calibration_of(plan), **changes)
