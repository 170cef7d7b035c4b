"""Options that benchmarks have in common: a model, what it is calibrated on, and texts that it is measured on."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from billhook import Tokens
from billhook.cli.sources import weighed
from billhook.data.text_source import BUILTIN_EVALUATION
from billhook.errors import InvalidConfig
from billhook.evaluation.perplexity import held_out

WIDTH = 400
"""Characters a table may take. It takes what it needs: a pipe's 80 would break figures in two."""


def measuring(description: str | None, *, tokens: int) -> argparse.ArgumentParser:
    """A parser of these options; ``tokens`` of each text are measured on unless told otherwise."""
    found = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--model", default="smollm2")
    found.add_argument("--device", default="cpu")
    found.add_argument("--text", action="append", metavar="[NAME=]SOURCE", help="measured on; the built-in one if none")
    found.add_argument("--calibration", action="append", metavar="SOURCE[=WEIGHT]", help="the built-in one if none")
    found.add_argument("--tokens", type=int, default=tokens, help="of each text, from its end")
    found.add_argument("--eval-seqlen", type=int, default=1024, help="tokens in a row that is measured on")
    return found


def check_texts(options: argparse.Namespace) -> None:
    """Refuse texts before anything is loaded; see :func:`read_texts`."""
    _sources(options.text, options.calibration)


def read_texts(options: argparse.Namespace, tokenizer: PreTrainedTokenizerBase) -> dict[str, Tokens]:
    """The rows to measure on, by name.

    Raises:
        InvalidConfig: two texts have one name, or one is calibrated on.
    """
    return {
        name: held_out(source, tokenizer, seqlen=options.eval_seqlen, tokens=options.tokens)
        for name, source in _sources(options.text, options.calibration).items()
    }


def _sources(given: Sequence[str] | None, calibration: Sequence[str] | None) -> dict[str, str]:
    """Name and source of each ``--text``.

    Raises:
        InvalidConfig: two have one name, or one is calibrated on.
    """
    found: dict[str, str] = {}
    for text in given or [f"builtin={BUILTIN_EVALUATION}"]:
        name, equals, source = text.partition("=")
        if not equals or "/" in name:  # no name was given; the path may hold a = of its own
            name, source = re.sub(r"\.\w+$", "", Path(text).name), text
        if name in found:
            raise InvalidConfig(f"Two texts are called {name!r}: name one of them, --text NAME={source}.")
        if any(Path(weighed(each)[0]).resolve() == Path(source).resolve() for each in calibration or []):
            raise InvalidConfig(f"{source} is calibrated on, so it cannot be measured on: give separate files.")
        found[name] = source
    return found
