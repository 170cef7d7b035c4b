"""``billhook apply``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from billhook.cli import options

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from billhook.calibration import Calibration
    from billhook.cli.inputs import Opened
    from billhook.plan import CalibrationRecord, Plan

THE_PLANS = "the plan's"


def command(
    plan: Annotated[
        Path,
        typer.Argument(metavar="PLAN", help="A plan file, or the folder of a pruned checkpoint.", show_default=False),
    ],
    model: options.Model,
    out: options.RequiredOut,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the data are now, or other data.",
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
    any_calibration: Annotated[
        bool,
        typer.Option(
            "--any-calibration",
            help="Accept other data than the plan was made with; the repairs then differ.",
            rich_help_panel=options.DATA,
        ),
    ] = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    cache_mib: options.CacheMib = None,
    overwrite: options.Overwrite = False,
    verify: options.Verify = True,
    json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Make the cuts of PLAN in MODEL again, repaired the same way. On the same data: the same weights."""
    import attrs

    from billhook import applying
    from billhook.cli import inputs, output
    from billhook.cli.progress import ProgressBars
    from billhook.plan import Plan

    inputs.check_output(out, overwrite, model)
    given = Plan.load(plan)
    pruner = applying.pruner_for(given)
    cache = inputs.cache_budget(cache_mib)
    data = _data(given.calibration, source=calibration, samples=samples, seqlen=seqlen, seed=seed)
    with ProgressBars() as bars:
        with bars.step("loading"):
            opened = _open(model, data, dtype=dtype, device=device, plan=given, moved=calibration is None)
        result = applying.apply(
            given,
            opened.model,
            opened.tokenizer,
            calibration=opened.calibration,
            pruner=attrs.evolve(pruner, hooks=[bars], cache=cache),
            any_calibration=any_calibration,
        )
        with bars.step("saving"):
            path = inputs.save(result, out, overwrite=overwrite, verify=verify)
    output.print_result(result, path, bars.seconds, as_json=json)


def _open(model: str, data: Calibration, *, dtype: str, device: str, plan: Plan, moved: bool) -> Opened:
    """Load the model; ``moved`` says that a missing text is the plan's, and may lie elsewhere."""
    from billhook import applying
    from billhook.cli import inputs
    from billhook.errors import CalibrationError

    def check(empty: PreTrainedModel) -> None:
        applying.refuse_other_model(plan, empty)

    try:
        return inputs.open_model(model, data, dtype=dtype, device=device, check=check)
    except CalibrationError as error:
        if not moved:
            raise
        raise CalibrationError(
            f"{error} The plan was made with it; say where it is now: --calibration SOURCE."
        ) from error


def _data(record: CalibrationRecord, **given: Any) -> Calibration:
    """The plan's calibration, with what was given in its place."""
    import attrs

    from billhook.calibration import Calibration

    changes = {name: value for name, value in given.items() if value is not None}
    return attrs.evolve(Calibration.from_record(record), **changes)
