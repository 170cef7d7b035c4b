"""``billhook export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from billhook.cli import options

if TYPE_CHECKING:
    from billhook.model.view import ModelView
    from billhook.plans.plan import Plan
    from billhook.plugins.registry import Registry


def command(
    plan: Annotated[
        Path,
        typer.Argument(metavar="PLAN", help="A plan file, or the folder of a pruned checkpoint.", show_default=False),
    ],
    to: Annotated[Literal["multipruner", "blockpruner"], typer.Option(help="Whose shape.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="The whole model that the plan is for; MultiPruner files tell the width of every branch.",
            show_default=False,
        ),
    ] = None,
    reorder: Annotated[
        bool,
        typer.Option(help="Whether the reader is to keep the units of the largest weight norm, or the first ones."),
    ] = True,
    plugin: options.PluginFiles = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write.", rich_help_panel=options.OUTPUT, show_default="stdout"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that is there.", rich_help_panel=options.OUTPUT)
    ] = False,
    verbose: options.Verbose = 0,
) -> None:
    """Write PLAN in the shape that MultiPruner or BlockPruner publish, so that their tools can do it."""
    import json

    from billhook.cli.taking_part import registry_with
    from billhook.files.whole_file import refuse_file, write_whole
    from billhook.interchange.export import to_blockpruner, to_multipruner
    from billhook.interchange.published import is_published
    from billhook.plans.plan import Plan

    if out is not None:
        refuse_file(out, overwrite=overwrite, is_ours=is_published, what="file of this kind")
    registry = registry_with(plugin)  # before the plan, whose kinds of cut a plugin may bring
    given = Plan.load(plan)
    if to == "blockpruner":
        text = json.dumps(to_blockpruner(given))
    else:
        text = json.dumps(to_multipruner(given, _view(given, model, registry), reordered=reorder), indent=4)
    if out is None:
        typer.echo(text)
    else:
        write_whole(out, f"{text}\n".encode(), overwrite=overwrite, what="file")


def _view(plan: Plan, model: str | None, registry: Registry) -> ModelView:
    """The model; without its weights where nobody asks which of them are large."""
    from billhook.cli import opening
    from billhook.errors import InvalidConfig
    from billhook.model import loading
    from billhook.plans.plan import refuse_other_model

    if model is None:
        raise InvalidConfig("A MultiPruner file tells the width of every branch: name the model with --model MODEL.")
    source = loading.find(model)
    skeleton = source.skeleton()
    if skeleton is not None:
        refuse_other_model(plan, skeleton)
    shapes_do = not any(cut.narrowed for cut in plan.cuts)
    return opening.view_of(skeleton if skeleton is not None and shapes_do else source.model(), registry)
