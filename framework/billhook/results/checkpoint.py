"""Checkpoints: written beside their place, compared with the model in memory, then renamed into it."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
from pathlib import Path
from typing import Any

import attrs
import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel

from billhook.cuts.kinds import cut_to_data
from billhook.errors import BillhookError, CheckpointError, first_line, is_out_of_memory
from billhook.heterogeneous.configuration_billhook import family_of, is_known
from billhook.heterogeneous.family import is_heterogeneous
from billhook.log import logger
from billhook.model.inserted import has_inserted
from billhook.plans.report import CutReport, SiteReport
from billhook.results.checkpoint_files import CARD, RECORD
from billhook.results.model_card import model_card
from billhook.results.outcome import Outcome
from billhook.results.padding import padded
from billhook.results.place import Place
from billhook.results.settling import describe_layers
from billhook.results.verification import refuse_not_finite, verify_reload, verify_same
from billhook.version import __version__

NAMED = 5
"""Layers that a message names at most."""


def save(
    result: Outcome,
    path: Path,
    *,
    overwrite: bool = False,
    verify: bool = True,
    pad: bool = False,
    uniform: bool = False,
) -> Path:
    """Write the pruned model as a transformers checkpoint.

    A stock one where the family's own code can load it. Models whose layers differ from one another are of the type
    ``billhook``: they load after ``import billhook``, and without it by ``trust_remote_code=True`` from two small
    files that are written beside the weights.

    Everything goes to a temporary folder next to ``path``, is reloaded into a fresh model and compared (logits,
    greedy tokens without cache, with a dynamic and with a static one), and only then renamed. An interrupted save
    leaves nothing behind; a failed comparison leaves the temporary folder to look at.

    Args:
        result: what :meth:`billhook.Pruner.prune` returned.
        path: the folder to make.
        overwrite: replace a folder that is there, if it is empty or a checkpoint and nothing else
            (``results/checkpoint_files.py``).
        verify: reload and compare; needs the model's memory a second time.
        pad: write a stock checkpoint all the same, larger: what is gone is there as zeros (``results/padding.py``).
        uniform: refuse a model that no stock checkpoint can hold; with ``pad``, there is none.

    Returns:
        ``path``.

    Raises:
        OutputExists: ``path`` is there and may not be replaced, or another run writes there.
        CheckpointError: the layers differ and ``uniform`` was asked for, the model cannot be padded, transformers
            refuses to save it, it cannot be written, the reloaded one differs, or there is no memory for that. The
            result stays as it is, and can be saved again.
        NotFinite: with ``verify``, the model's logits are NaN or infinite; nothing was written.
    """
    with Place(path, overwrite=overwrite) as place:
        return fill(place, result, verify=verify, pad=pad, uniform=uniform)


def fill(place: Place, result: Outcome, *, verify: bool = True, pad: bool = False, uniform: bool = False) -> Path:
    """Like :func:`save`, into a place that was taken before."""
    try:
        path = _fill(place, result, verify=verify, pad=pad, uniform=uniform)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"The checkpoint cannot be written{' and compared' * verify}: out of memory ({first_line(error)}). Nothing "
            f"of it is left at {place.path}. {'Without verify (--no-verify) it takes less.' * verify}".rstrip()
        ) from error
    logger.info("checkpoint written to {}", place.path)
    return path


def _fill(place: Place, result: Outcome, *, verify: bool, pad: bool, uniform: bool) -> Path:
    if verify:
        refuse_not_finite(result.model)
    model = padded(result.model) if pad else result.model
    if verify and model is not result.model:
        verify_same(result.model, model, "The padded model")
    if uniform:
        _refuse_uneven(model)
    _refuse_strange_family(model)
    try:
        place.require(byte_count(model))
        with place.draft() as draft:
            _write(result, model, draft)
            if verify:
                verify_reload(model, draft)
            _put_in_place(place, draft)
    except OSError as error:
        if isinstance(error, BillhookError) or is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"The checkpoint cannot be written to {place.path}: {error.strerror or first_line(error)}. Nothing of it "
            f"is left there. Make room, or save it elsewhere."
        ) from error
    return place.path.absolute()


def byte_count(model: PreTrainedModel) -> int:
    """Bytes that the weights take; tied ones once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise :class:`OutputExists` unless ``path`` is free, or may be overwritten: an empty folder or a checkpoint."""
    Place(path, overwrite=overwrite).refuse()


def _refuse_uneven(model: PreTrainedModel) -> None:
    """Raise :class:`CheckpointError` that names the layers for which ``model`` is of the type ``billhook``."""
    differing = describe_layers(model)
    if differing:
        more = f", and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
        way = (
            "Repair with the merger 'fold'"
            if has_inserted(model)
            else "Use the selectors' option 'uniform', fill it up with zeros (pad=True, --pad)"
        )
        raise CheckpointError(
            f"No stock checkpoint can hold this model, since its layers differ: {', '.join(differing[:NAMED])}{more}. "
            f"{way}, or save it without uniform."
        )


def _refuse_strange_family(model: PreTrainedModel) -> None:
    """Raise :class:`CheckpointError` for layers that differ in a family that only code beside the weights knows."""
    if not is_heterogeneous(model):
        return
    base = family_of(model.config)
    if not is_known(base):
        raise CheckpointError(
            f"The layers of this model differ, and its family {base!r} is none of transformers' own, so nothing could "
            f"load it again. Fill it up with zeros (pad=True), or use the selectors' option 'uniform'."
        )


def _write(result: Outcome, model: PreTrainedModel, folder: Path) -> None:
    try:
        model.save_pretrained(folder)
        if result.tokenizer is not None:
            result.tokenizer.save_pretrained(folder)
    except SafetensorError as error:
        raise _disk_error(error) from error
    except (ValueError, TypeError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise CheckpointError(
            f"transformers refuses to save the pruned {result.plan.model.model_type}: {error} (files so far: {folder})"
        ) from error
    (folder / CARD).write_text(model_card(result, model), encoding="utf-8")
    (folder / RECORD).write_text(json.dumps(record(result, folder), indent=2) + "\n", encoding="utf-8")


def _disk_error(error: SafetensorError) -> OSError:
    """What the system said, which safetensors tells in words only."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(first_line(error))


def record(result: Outcome, folder: Path) -> dict[str, Any]:
    """The content of ``billhook.json``: JSON values only, NaN as null."""
    return {
        "billhook": __version__,
        "plan": json.loads(result.plan.to_json()),
        "metrics": {name: finite_or_none(value) for name, value in result.metrics.items()},
        "reports": [report_to_data(report) for report in result.reports],
        "repairs": [report_to_data(report) for report in result.repairs],
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "sha256": {file.name: _sha256(file) for file in sorted(folder.glob("*.safetensors"))},
    }


def report_to_data(report: SiteReport) -> dict[str, Any]:
    """A report as JSON values, NaN as null."""
    data = attrs.asdict(report, recurse=False) | {"notes": list(report.notes)}
    if isinstance(report, CutReport):
        data["cut"] = cut_to_data(report.cut)
    return {name: finite_or_none(value) for name, value in data.items()}


def finite_or_none(value: Any) -> Any:
    """``value``, or None where it is a float that JSON has no word for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _put_in_place(place: Place, draft: Path) -> None:
    """Rename: last of all, when the draft is whole and compared."""
    place.put(draft)
