"""Checkpoints: written beside their place, compared with the model in memory, then renamed into it."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import torch
import transformers
from transformers import PreTrainedModel

from billhook.cuts.kinds import cut_to_data
from billhook.errors import CheckpointError, OutputExists
from billhook.log import logger
from billhook.model.inserted import has_inserted
from billhook.plans.report import CutReport, SiteReport
from billhook.results.model_card import model_card
from billhook.results.outcome import Outcome
from billhook.results.padding import padded
from billhook.results.settling import describe_layers
from billhook.results.verification import verify_reload, verify_same
from billhook.version import __version__

RECORD = "billhook.json"
"""Beside the weights: plan, figures, versions and hashes."""

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
        overwrite: replace a folder that is there, if it is empty or holds a checkpoint.
        verify: reload and compare; needs the model's memory a second time.
        pad: write a stock checkpoint all the same, larger: what is gone is there as zeros (``results/padding.py``).
        uniform: refuse a model that no stock checkpoint can hold; with ``pad``, there is none.

    Returns:
        ``path``.

    Raises:
        OutputExists: ``path`` is there and may not be replaced.
        CheckpointError: the layers differ and ``uniform`` was asked for, the model cannot be padded, transformers
            refuses to save it, or the reloaded one differs.
    """
    refuse_existing(path, overwrite)
    model = padded(result.model) if pad else result.model
    if verify and model is not result.model:
        verify_same(result.model, model, "The padded model")
    if uniform:
        _refuse_uneven(model)
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_sibling(path) as draft:
        _write(result, model, draft)
        if verify:
            verify_reload(model, draft)
        _put_in_place(draft, path)
    logger.info("checkpoint written to {}", path)
    return path


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise :class:`OutputExists` unless ``path`` is free, or may be overwritten: an empty folder or a checkpoint."""
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise OutputExists(f"The output {path} exists. Choose another, or allow overwriting it (--overwrite).")
    if not path.is_dir() or path.is_symlink() or (any(path.iterdir()) and not (path / "config.json").is_file()):
        raise OutputExists(f"The output {path} is no checkpoint folder, so it is not overwritten. Choose another.")


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


@contextmanager
def _temporary_sibling(path: Path) -> Iterator[Path]:
    """A new folder next to ``path``; removed on every way out but a failed comparison."""
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".partial", dir=path.parent))
    draft.chmod(0o755)  # mkdtemp makes private folders; a checkpoint is an ordinary one
    try:
        yield draft
    except CheckpointError:
        raise  # it names the folder, which is the evidence
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _write(result: Outcome, model: PreTrainedModel, folder: Path) -> None:
    try:
        model.save_pretrained(folder)
        if result.tokenizer is not None:
            result.tokenizer.save_pretrained(folder)
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"transformers refuses to save the pruned {result.plan.model.model_type}: {error} (files so far: {folder})"
        ) from error
    (folder / "README.md").write_text(model_card(result, model), encoding="utf-8")
    (folder / RECORD).write_text(json.dumps(record(result, folder), indent=2) + "\n", encoding="utf-8")


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


def _put_in_place(draft: Path, path: Path) -> None:
    """Rename; an old folder is moved aside first and deleted last, so that one of the two is always whole."""
    if not path.exists():
        draft.rename(path)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}-", suffix=".old", dir=path.parent))
    path.rename(old / path.name)
    try:
        draft.rename(path)
    except BaseException:
        (old / path.name).rename(path)
        old.rmdir()
        raise
    shutil.rmtree(old)
