"""``billhook new-plugin``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from billhook.cli import options


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will write, such as my-idea.")],
    role: Annotated[
        str,
        typer.Option(help="selector, estimator, merger, objective, adapter, recipe or hook.", show_default=False),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to make the folder billhook-NAME.")] = Path("."),
    verbose: options.Verbose = 0,
) -> None:
    """Begin a plugin: a folder with a module that works, its distribution, and a test that passes."""
    from billhook.plugins.new_plugin import new_plugin

    typer.echo(new_plugin(name, role, out))
