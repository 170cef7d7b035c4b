"""Where a checkpoint goes, and what is kept if it cannot. Imports torch, so commands import this when they run."""

from __future__ import annotations

import itertools
import os
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from billhook.cli.opening import view_of
from billhook.cuts.drop_branch import DropBranch
from billhook.cuts.drop_layers import DropLayers
from billhook.errors import BillhookError, CheckpointError, OutputExists, is_out_of_memory
from billhook.files.whole_file import write_whole
from billhook.plans.budget import Budget
from billhook.plans.plan import Plan
from billhook.results.checkpoint import byte_count, fill
from billhook.results.place import Place
from billhook.results.result import PruneResult
from billhook.roles.selector import Selector

TRIES = 20
"""Names that are tried in one folder for what is kept of a run: those of earlier runs stay."""


def check_output(out: Path, overwrite: bool, model: str) -> Place:
    """The place of a command's output; refuses what cannot be made, before anything is computed, and writes nothing."""
    place = Place(out, overwrite=overwrite)
    parent = next(folder for folder in place.full.parents if os.path.lexists(folder))
    if parent.is_file():
        raise OutputExists(f"The output {out} cannot be made: {parent} is a file.")
    place.refuse()
    if out.exists() and Path(model).expanduser().exists() and out.samefile(Path(model).expanduser()):
        raise OutputExists(f"The output {out} is the model itself. Choose another folder.")
    if not os.access(parent, os.W_OK):
        raise CheckpointError(f"The output {out} cannot be made: {parent} is not writable.")
    return place


def require_room(place: Place, model: PreTrainedModel, budget: Budget, selector: Selector) -> None:
    """Refuse a disk on which the pruned model will not have room: what is left by ``budget``, less the last layer or
    branch that may go beyond it.

    Raises:
        CheckpointError: it has not.
    """
    view = view_of(model)
    coarse = any(issubclass(kind, DropLayers | DropBranch) for kind in selector.kinds())
    gone = budget.parameter_count(view) + coarse * view.layer_parameter_count / len(view.numbers)
    place.require(round(byte_count(model) * (1 - gone / view.parameter_count)))


def save(
    result: PruneResult,
    place: Place,
    *,
    verify: bool,
    pad: bool = False,
    uniform: bool = False,
    again: Sequence[str] = (),
) -> Path:
    """Like :meth:`PruneResult.save`, into a place that was taken before. If it fails, the work is not lost.

    Args:
        result: what to save.
        place: where; entered.
        verify: as there, ``pad`` and ``uniform`` too.
        again: the model and the options by which ``billhook apply PLAN`` makes the same model again; nothing if the
            same command does.
    """
    try:
        return fill(place, result, verify=verify, pad=pad, uniform=uniform)
    except OutputExists as error:
        spare = next(path for path in _numbered(place.path) if not path.exists())
        with Place(spare) as other:
            path = fill(other, result, verify=verify, pad=pad, uniform=uniform)
        raise OutputExists(f"{error} The checkpoint is in {path}.") from error
    except BillhookError as error:
        if verify and error.__cause__ is not None and is_out_of_memory(error.__cause__):
            kept = _uncompared(result, place, pad=pad, uniform=uniform)
            if kept is not None:
                raise CheckpointError(
                    f"Out of memory: the checkpoint is in {kept}, but was not compared with the model that was in "
                    f"memory. See what comes out of it: {shlex.join(['billhook', 'evaluate', str(kept)])}"
                ) from error
        raise CheckpointError(f"{error} {_way_on(result.plan, place.path, again)}") from error


def _uncompared(result: PruneResult, place: Place, *, pad: bool, uniform: bool) -> Path | None:
    """The checkpoint without what there is no memory for; None if there is not enough for that either."""
    try:
        return fill(place, result, verify=False, pad=pad, uniform=uniform)
    except BillhookError:
        return None


def _way_on(plan: Plan, out: Path, again: Sequence[str]) -> str:
    """Keeps the plan, and says what makes the model from it."""
    if not again:
        return "The same command with another --out makes it again."
    for path in _free_files(out):
        try:
            write_whole(path, plan.to_json().encode(), overwrite=False, what="plan")
        except (CheckpointError, OutputExists):
            continue
        command = shlex.join(["billhook", "apply", str(path), *again])
        return f"The plan is kept, and makes the same model again: {command} --out ELSEWHERE"
    return "The plan cannot be kept anywhere either."


def _free_files(out: Path) -> Iterator[Path]:
    """Where the plan may be kept: beside the output, where it is looked for; elsewhere if no file can be made there."""
    for folder in (out.absolute().parent, Path.cwd(), Path(tempfile.gettempdir())):
        yield from itertools.islice(_numbered(folder / f"{out.absolute().name}.plan", ".json"), TRIES)


def _numbered(path: Path, suffix: str = "") -> Iterator[Path]:
    """``path``, then ``path-2``, ``path-3``, …"""
    yield from (path.with_name(f"{path.name}{'' if n == 1 else f'-{n}'}{suffix}") for n in itertools.count(1))
