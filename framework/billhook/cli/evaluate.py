"""``billhook evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from billhook.cli import options

TEXT = "Text"


def command(
    model: options.Model,
    text: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="A file or data set as for calibration, or builtin:evaluation.",
            rich_help_panel=TEXT,
        ),
    ] = "builtin:evaluation",
    seqlen: Annotated[
        int, typer.Option(help="Tokens in a row; each row is predicted by itself.", rich_help_panel=TEXT)
    ] = 1024,
    tokens: Annotated[
        int, typer.Option(help="Use at most this many tokens, from the end of the text.", rich_help_panel=TEXT)
    ] = 65536,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    json: options.Json = False,
    verbose: options.Verbose = 0,
) -> None:
    """Measure the perplexity of MODEL, pruned or not, on held-out text."""
    import attrs

    from billhook import loading
    from billhook.cli import output
    from billhook.cli.progress import ProgressBars
    from billhook.evaluation import evaluate, held_out
    from billhook.model_view import refuse_long_rows

    with ProgressBars() as bars:
        with bars.step("loading"):
            source = loading.find(model, dtype=dtype, device=device)
            skeleton = source.skeleton()
            if skeleton is not None:
                refuse_long_rows(skeleton, seqlen)
            tokenizer = source.tokenizer()
            data = held_out(text, tokenizer, seqlen=seqlen, tokens=tokens)
            loaded = source.model()
        with bars.clock("scoring"):
            found = evaluate(loaded, tokenizer, data, progress=bars.billhook_on_progress)
    if json:
        output.print_json({"model": model, **attrs.asdict(found), "seconds": bars.seconds["scoring"]})
        return
    rows = f"{found.rows} rows of {found.seqlen} tokens"
    output.show(
        output.facts(
            [
                ("model", model),
                ("perplexity", f"{found.perplexity:.4f}"),
                ("text", f"{found.source}: {found.token_count:,} tokens predicted, in {rows}"),
                ("parameters", f"{found.parameters:,}"),
                ("seconds", output.durations(bars.seconds)),
            ]
        )
    )
