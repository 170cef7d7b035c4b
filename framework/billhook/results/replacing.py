"""A new checkpoint takes the place of an old one: at every moment one of the two is whole, and findable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from billhook.errors import OutputExists
from billhook.files.renaming import exchange, rename_new
from billhook.files.syncing import sync_folder
from billhook.log import logger
from billhook.results.beside import Beside
from billhook.results.checkpoint_files import RECORD, remove_checkpoint

Check = Callable[[Path], None]
"""Raises unless the folder is the old checkpoint, and nothing else by now."""


def replace(beside: Beside, draft: Path, check: Check) -> None:
    """Put ``draft`` in the place of the checkpoint that is there, and delete that.

    Raises:
        OutputExists: ``check`` does; or something appeared while the place was empty, where two steps are needed.
        OSError: it cannot be renamed.
    """
    check(beside.place)
    if not _swap(beside, draft, check):
        _move_aside(beside, draft, check)


def mend(beside: Beside, aside: Path) -> None:
    """After a kill: an old checkpoint that was moved aside goes back, or away if the new one is in its place."""
    old = aside / beside.place.name
    if aside.suffix == ".old" and old.is_dir():
        if not beside.place.exists():
            rename_new(old, beside.place)
            logger.warning("An interrupted run had moved {} aside: it is back in its place.", beside.place)
        elif not (beside.place / RECORD).is_file():  # what is there did not take its place
            logger.warning("A checkpoint that was at {} lies in {}: see whether you need it.", beside.place, old)
            return
    _remove(beside, aside)


def _swap(beside: Beside, draft: Path, check: Check) -> bool:
    """In one step; False, and nothing done, where the system cannot."""
    aside = beside.make("swap")  # a draft is deleted whatever is in it; of what is here, only files of a checkpoint
    old = aside / beside.place.name
    rename_new(draft, old)
    swapped = False
    try:
        swapped = exchange(old, beside.place)
        if swapped:
            check(old)
    except BaseException:
        if swapped:
            exchange(old, beside.place)
        rename_new(old, draft)
        aside.rmdir()
        raise
    if not swapped:
        rename_new(old, draft)
        aside.rmdir()
        return False
    sync_folder(beside.place.parent)
    _remove(beside, aside)
    return True


def _move_aside(beside: Beside, draft: Path, check: Check) -> None:
    """In two steps; after a kill between them :func:`mend` puts the old checkpoint back."""
    aside = beside.make("old")
    old = aside / beside.place.name
    rename_new(beside.place, old)
    try:
        check(old)
        rename_new(draft, beside.place)
    except BaseException as error:
        try:
            rename_new(old, beside.place)
            aside.rmdir()
        except FileExistsError:
            raise OutputExists(
                f"Something appeared at the output {beside.place} while the run went on, and is left alone. The "
                f"checkpoint that was there is in {old}."
            ) from error
        raise
    sync_folder(beside.place.parent)
    _remove(beside, aside)


def _remove(beside: Beside, aside: Path) -> None:
    old = aside / beside.place.name
    gone = not old.is_dir() or remove_checkpoint(old)
    try:
        aside.rmdir()
    except OSError:
        gone = False
    if not gone:
        logger.warning("Of a checkpoint that was replaced something is left in {}: see whether you need it.", aside)
