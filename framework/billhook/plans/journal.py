"""Journal: the decisions of a search on disk, so that a run of hours can be stopped and goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from billhook.cuts.cut import Cut
from billhook.cuts.kinds import cut_from_data, cut_to_data
from billhook.errors import InvalidJournal
from billhook.json_text import BadJson, bytes_of, decoded, parsed
from billhook.plans.before import said_now, told_before
from billhook.plans.journal_file import JournalFile


@attrs.frozen(kw_only=True)
class Decision:
    """What a search chose in one step.

    Attributes:
        cut: the winner.
        score: its objective on the data.
    """

    cut: Cut
    score: float


MOST_BYTES = 2**30
"""Of a journal. A decision takes some hundred."""

_BEGINNING = b'{"run": '
"""Of the first line. Of an unfinished one it is all there is to know a journal by."""


class Journal:
    """A file of one JSON object a line: what run this is, then every decision.

    A line is on disk before the search goes on. A last line that a kill cut short is ignored and overwritten.
    Opening the file of an unfinished run of the same kind gives its decisions back, one by one.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: os.PathLike[str], run: Mapping[str, Any]) -> None:
        """Open ``path``, or begin it. Nobody else can until this is closed, or its process has ended.

        Args:
            path: of the file; its folder is made. Or a :class:`JournalFile`, which was locked before.
            run: everything the decisions depend on, as JSON values.

        Raises:
            InvalidJournal: the file belongs to another run, is no journal, cannot be written, or another run works
                on it.
        """
        self._owned = not isinstance(path, JournalFile)
        self._file = path if isinstance(path, JournalFile) else JournalFile(Path(path))
        self.path = self._file.path
        self._run = json.loads(json.dumps(run))
        self._decisions: list[Decision] = []
        self._more: list[bool] = []  # whether the next one was made together with it
        self._next = 0
        try:
            whole = self._read()
            self._file.truncate(whole)
            if whole == 0:
                self._write({"run": self._run})
        except BaseException:
            self.close()
            raise

    @property
    def replayed(self) -> int:
        """Decisions taken from the file so far."""
        return self._next

    @property
    def waiting(self) -> int:
        """Decisions in the file that were not asked for yet."""
        return len(self._decisions) - self._next

    def recall(self) -> Decision | None:
        """The next decision in the file; None when it has no more."""
        if self._next == len(self._decisions):
            return None
        self._next += 1
        return self._decisions[self._next - 1]

    def recall_round(self) -> list[Decision]:
        """The next decisions in the file that were made together; none when it has no more."""
        found: list[Decision] = []
        while (decision := self.recall()) is not None:
            found.append(decision)
            if not self._more[self._next - 1]:
                break
        return found

    def note(self, decision: Decision) -> None:
        """Write a new decision down."""
        self.note_round([decision])

    def note_round(self, decisions: Sequence[Decision]) -> None:
        """Write down decisions that were made together: after a kill the file holds all of them, or none."""
        lines = [
            {"cut": cut_to_data(decision.cut), "score": decision.score} | ({"more": more} if more else {})
            for more, decision in zip(range(len(decisions) - 1, -1, -1), decisions, strict=True)
        ]
        self._write(*lines)
        self._decisions += decisions
        self._more += [bool(line.get("more")) for line in lines]
        self._next += len(decisions)

    def remove(self) -> None:
        """Delete the file: the run is over and its result is safe."""
        self._file.remove()

    def close(self) -> None:
        """Let others have the file, unless it was opened by somebody else; it stays."""
        if self._owned:
            self._file.close()

    def _write(self, *lines: Mapping[str, Any]) -> None:
        self._file.append(b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def _read(self) -> int:
        """Take over what the file says; returns how many of its bytes are whole lines."""
        try:
            data = bytes_of(self.path, MOST_BYTES)
        except BadJson as error:
            raise InvalidJournal(f"The journal {self.path} cannot be read: {error}.") from error
        lines = data[: data.rfind(b"\n") + 1].splitlines(keepends=True)
        if not lines:
            if data[: len(_BEGINNING)] != _BEGINNING[: len(data)]:
                raise InvalidJournal(f"{self.path} is no journal of a search. Choose another place for it.")
            return 0
        try:
            first, *rest = [parsed(decoded(line), finite=False) for line in lines]
            while rest and rest[-1].get("more"):  # a kill cut a round short
                rest.pop()
            whole = sum(map(len, lines[: 1 + len(rest)]))
            run = said_now(first["run"])
            self._decisions = [Decision(cut=cut_from_data(line["cut"]), score=float(line["score"])) for line in rest]
            self._more = [bool(line.get("more")) for line in rest]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidJournal(f"{self.path} is no journal of a search, or is damaged: {error}") from error
        if run not in (self._run, told_before(self._run)):
            raise InvalidJournal(
                f"The journal {self.path} belongs to another run: {_difference(run, self._run)} "
                f"Finish that run with its own command, or name another journal for this one (--journal FILE)."
            )
        return whole


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    name = names[0]
    return f"its {name} is {json.dumps(theirs.get(name))}, here it is {json.dumps(ours.get(name))}."
