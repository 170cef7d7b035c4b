"""The guard: text of another kind than the calibration's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from billhook.data.self_generated import SELF, SelfGenerated, named
from billhook.data.text_source import BUILTIN
from billhook.errors import CalibrationError
from billhook.log import logger
from billhook.model.vocabulary import refuse_unknown_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from billhook.data.calibration import Calibration
    from billhook.data.tokens import Tokens
    from billhook.progress import Progress


SEED = 2**31
"""Of the guard's rows: one that nobody takes for calibration rows."""


def guard_tokens(
    calibration: Calibration,
    tokens: Tokens,
    tokenizer: PreTrainedTokenizerBase | None,
    model: PreTrainedModel,
    *,
    rows: int,
    progress: Progress,
) -> Tokens | None:
    """``rows`` rows as long as the calibration's, of :attr:`Calibration.guard`.

    By a seed of their own: a source that gives both gives other rows, and the calibration's seed changes none of these.

    Returns:
        None, after a warning, if nobody said which text to take and none can be had.

    Raises:
        CalibrationError: the text that was asked for cannot be had, or holds ids that the model does not have.
    """
    source = calibration.guard
    if source is None:
        source = BUILTIN if _written_by_the_model(tokens) else SelfGenerated()
    wanted = attrs.evolve(
        calibration,
        source=source,
        samples=rows,
        seqlen=tokens.ids.shape[1],
        seed=SEED,
        chat_template=calibration.chat_template and not isinstance(named(source), SelfGenerated),
        guard=None,
    )
    try:
        found = wanted.tokenize(tokenizer, model, progress=progress)
        refuse_unknown_ids(model, found.ids, tokenizer)
        return found.some(rows * found.ids.shape[1])  # ready tokens come whole
    except CalibrationError as error:
        if calibration.guard is not None:
            raise _no_guard(error) from error
        logger.warning("Repairs are not checked on text of another kind, as there is none: {}", error)
        return None


def refuse_unreadable_guard(calibration: Calibration, tokenizer: PreTrainedTokenizerBase) -> None:
    """Read the guard's text, unless the model is to write it, to find out now rather than after the work.

    Raises:
        CalibrationError: it cannot be had.
    """
    if calibration.guard is None or isinstance(named(calibration.guard), SelfGenerated):
        return
    try:
        attrs.evolve(calibration, source=calibration.guard, samples=1, guard=None).tokenize(tokenizer)
    except CalibrationError as error:
        raise _no_guard(error) from error


def _no_guard(error: CalibrationError) -> CalibrationError:
    return CalibrationError(
        f"{error} Repairs are to be checked on it: say where it is (Calibration(guard=...), --guard), or check on none "
        f"(Repair(guard=0), --set repair.guard=0)."
    )


def _written_by_the_model(tokens: Tokens) -> bool:
    return any(part.source == SELF for part in tokens.parts)
