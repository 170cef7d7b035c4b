"""Where a checkpoint goes. Imports torch, so commands import this when they run."""

from __future__ import annotations

import os
from pathlib import Path

from billhook.errors import BillhookError, CheckpointError, OutputExists
from billhook.results.checkpoint import refuse_existing
from billhook.results.result import PruneResult


def check_output(out: Path, overwrite: bool, model: str) -> None:
    """Refuse an output folder that cannot be made, before anything is computed for it."""
    refuse_existing(out, overwrite)
    if out.exists() and Path(model).expanduser().exists() and out.samefile(Path(model).expanduser()):
        raise OutputExists(f"The output {out} is the model itself. Choose another folder.")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise OutputExists(f"The output {out} cannot be made: {parent} is a file.")
    if not os.access(parent, os.W_OK):
        raise CheckpointError(f"The output {out} cannot be made: {parent} is not writable.")


def save(
    result: PruneResult, out: Path, *, overwrite: bool, verify: bool, pad: bool = False, uniform: bool = False
) -> Path:
    """Like :meth:`PruneResult.save`; a full disk and the like are the user's errors, not bugs."""
    try:
        return result.save(out, overwrite=overwrite, verify=verify, pad=pad, uniform=uniform)
    except BillhookError:
        raise
    except OSError as error:
        raise CheckpointError(f"The checkpoint cannot be written to {out}: {error}") from error
