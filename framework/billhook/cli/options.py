"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from billhook.cli.messages import Messages


def _set_verbosity(context: typer.Context, verbosity: int) -> None:
    messages = context.find_object(Messages)
    if messages is not None and verbosity:
        messages.show(verbosity)


PluginFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="FILE.py",
        help="Take part in this run: a Python file with hooks, which is run. May be given several times.",
        rich_help_panel="Plugins",
        show_default=False,
    ),
]


def strategy(help: str, panel: str, default: str | None = None) -> Any:
    """The option that names a strategy; ``default`` is what the help says of leaving it out."""
    return typer.Option(metavar="NAME|MODULE:CLASS", help=help, rich_help_panel=panel, show_default=default or False)


def settings(help: str, panel: str) -> Any:
    """``--set``."""
    return typer.Option("--set", metavar="ROLE.OPTION=VALUE", help=help, rich_help_panel=panel, show_default=False)


DATA = "Calibration data"
MODEL = "Model"
OUTPUT = "Output"

Model = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A folder, a .gguf file, a name on the hub, or smollm2.", show_default=False),
]
Device = Annotated[str, typer.Option(help="Where the model runs, as torch names it.", rich_help_panel=MODEL)]
Dtype = Annotated[
    str,
    typer.Option(help="auto (the checkpoint's own), float32, bfloat16 or float16.", rich_help_panel=MODEL),
]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER",
        help="Where the tokenizer is, a folder or a name on the hub, if MODEL comes without one.",
        rich_help_panel=MODEL,
        show_default="MODEL's own",
    ),
]
CacheMib = Annotated[
    int | None,
    typer.Option(
        help="MiB that cached activations may take, in main memory and on the device each.",
        rich_help_panel=MODEL,
        show_default="512, device 1024",
    ),
]

CalibrationSource = Annotated[
    list[str] | None,
    typer.Option(
        "--calibration",
        metavar="SOURCE[=WEIGHT]",
        help="A .txt, .raw, .json or .jsonl file, a data set of the hub (name:config:split), texts for those that come "
        "with billhook, or self for text that the model writes. Repeat it to blend several by weight.",
        rich_help_panel=DATA,
        show_default="texts",
    ),
]


def guard(default: str) -> Any:
    """``--guard``, of which ``default`` says what holds without it."""
    return typer.Option(
        "--guard",
        metavar="SOURCE",
        help="Text of another kind than --calibration, where repairs are checked to do no harm.",
        rich_help_panel=DATA,
        show_default=default,
    )


Samples = Annotated[int, typer.Option(help="Rows of tokens.", rich_help_panel=DATA)]
Seqlen = Annotated[int, typer.Option(help="Tokens in a row.", rich_help_panel=DATA)]
Seed = Annotated[int, typer.Option(help="Which rows are taken, and what the model writes.", rich_help_panel=DATA)]
Packing = Annotated[
    Literal["pack", "pad"],
    typer.Option(help="Cut joined documents into full rows, or give each a row of its own.", rich_help_panel=DATA),
]
ChatTemplate = Annotated[
    bool, typer.Option("--chat-template", help="Put documents through the chat template.", rich_help_panel=DATA)
]
Begin = Annotated[
    bool,
    typer.Option(
        help="Begin rows with the token that the tokenizer puts before a text, if it does.", rich_help_panel=DATA
    ),
]

_OUT = typer.Option(
    metavar="DIR", help="The folder to make for the checkpoint.", rich_help_panel=OUTPUT, show_default=False
)
Out = Annotated[Path | None, _OUT]
RequiredOut = Annotated[Path, _OUT]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace a checkpoint that is there.", rich_help_panel=OUTPUT)
]
Verify = Annotated[
    bool, typer.Option(help="Reload the checkpoint and compare it with the model in memory.", rich_help_panel=OUTPUT)
]
Pad = Annotated[
    bool,
    typer.Option("--pad", help="Put zeros where layers differ, for a stock checkpoint.", rich_help_panel=OUTPUT),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.", rich_help_panel=OUTPUT)]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        callback=_set_verbosity,
        is_eager=True,
        help="Say more; twice, say everything.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
