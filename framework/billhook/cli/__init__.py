"""The command line: parse, call the library, print. One file for each command.

Importing this loads neither torch nor transformers: commands import what they need when they run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, cast

import typer

from billhook.cli.commands import analyze, apply, evaluate, export, new_plugin, plugins, prune, recipes
from billhook.cli.ending import ending
from billhook.cli.messages import Interrupted, Messages
from billhook.cli.streams import kept, lossy_streams
from billhook.errors import BillhookError, first_line, is_out_of_memory
from billhook.version import __version__

UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])
"""What typer raises on a command line it cannot parse. It exports only this subclass."""

app = typer.Typer(
    help="Prune pre-trained transformers without training; repair every cut in closed form.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (prune, analyze, evaluate, apply, export, recipes, plugins, new_plugin):
    app.command(command.__name__.rpartition(".")[2].replace("_", "-"))(command.command)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"billhook {__version__}")
        raise typer.Exit


@app.callback()
def _billhook(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``arguments`` are those of the process if None.

    Returns:
        The exit code: 0; 1 after an error of the library, which is told in one line on stderr, and where the result
        could not be printed; 2 when the command line cannot be parsed; 130 when interrupted. Anything unexpected is
        raised, with its traceback, whose last line names the plugin that it comes from, if it comes from one.
    """
    with lossy_streams() as losses:
        code = _run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        lost = losses.stdout
        if lost is None or isinstance(lost, BrokenPipeError):  # whoever read it has had enough
            return code
        with Messages() as messages:
            messages.error(f"What the command says could not be printed: {lost.strerror}. {kept(losses.said)}")
        return code or 1


def _run(arguments: Sequence[str] | None) -> int:
    with Messages() as messages, ending():
        try:
            code = app(
                args=None if arguments is None else list(arguments),
                prog_name="billhook",
                standalone_mode=False,
                obj=messages,
            )
        except BillhookError as error:
            messages.error(_with_culprit(error))
            return 1
        except UsageError as error:
            return _explain_usage(error, messages)
        except Interrupted as interrupted:
            messages.error(str(interrupted))
            return 130
        except (KeyboardInterrupt, typer.Abort):
            code = 130
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            notes = " ".join(getattr(error, "__notes__", ()))
            messages.error(
                f"Out of memory: {first_line(error)} Try --dtype bfloat16, a smaller --seqlen, or a smaller "
                f"--cache-mib. {notes}".rstrip()
            )
            return 1
        if code == 130:  # newer typer turns an interrupt into this code itself
            messages.error("Interrupted.")
        return code if isinstance(code, int) else 0


def _with_culprit(error: BillhookError) -> str:
    """The text of an error, with the plugin that raised it, if one did."""
    from billhook.plugins.culprit import culprit_of

    culprit = culprit_of(error)
    return str(error) if culprit is None else f"{error} (Raised {culprit}.)"


def _explain_usage(error: typer.BadParameter, messages: Messages) -> int:
    text = error.format_message().replace("Value error, ", "")  # which typer takes over from pydantic
    where = error.ctx.command_path if error.ctx else "billhook"
    if text:
        messages.error(f"{text.rstrip('.')}. See '{where} --help'.")
    return error.exit_code
