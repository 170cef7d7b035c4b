"""Reading documents: from files, lists, data sets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

from billhook import hub
from billhook.data.corpus import Corpus, Lines, Pieces, Records
from billhook.errors import CalibrationError, did_you_mean, first_line, is_out_of_memory

BUILTIN = "builtin"
"""The calibration part of the text that comes with Python."""

BUILTIN_EVALUATION = "builtin:evaluation"
"""The rest of it, for measuring."""

NAMES = ("texts", "self", BUILTIN, BUILTIN_EVALUATION)
"""Sources that are neither a file nor a data set."""

WHOLE = 16 * 2**20
"""Bytes or characters that are read, and tokenised, as a whole; of more only what the rows need."""

MOST_JSON = 2**30
"""Bytes of a ``.json`` file that is one value and so must be parsed as a whole, for about eight times the memory."""

LONGEST_LINE = 2**24
"""Bytes of a line that are looked at to see what kind of file it is in."""

TEXT_FIELDS = ("text", "content", "document")
"""Fields of a record that hold plain text, in order of preference."""

QUESTION_FIELDS = ("instruction", "prompt")
"""Fields that hold what a user says: Alpaca's, and those of completion data."""

CONTEXT_FIELDS = ("input", "context")
"""Fields that belong to the question: Alpaca's and Dolly's."""

CHAT_FIELDS = ("messages", "conversations")
"""Fields that hold a chat."""

ANSWER_FIELDS = ("output", "response", "completion")
"""Fields that hold what the assistant answers."""

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant"}
"""What ShareGPT's chats call the roles, and what chat templates do."""

Document = str | list[dict[str, str]]
"""Plain text, or a chat as ``[{"role": …, "content": …}, …]``."""


def documents(source: object) -> tuple[list[Document], str]:
    """The documents of a source, and what to call it.

    ``source`` is ``builtin``, a file (``.jsonl`` and ``.json`` records, ``.raw`` in WikiText's layout, anything else
    plain text), a name that ``datasets.load_dataset`` knows (``name``, ``name:config`` or ``name:config:split``), a
    ``datasets.Dataset`` or another iterable of records, or a sequence of strings.

    Raises:
        CalibrationError: it cannot be read, holds no text, or is of none of these kinds.
    """
    held, name = _located(source)
    found = _from_file(held) if isinstance(held, Path) else [_document(record) for record in held]
    return refuse_empty(found, name), name


def opened(source: object, *, size: int, tokens: int) -> tuple[list[Document] | Corpus, str]:
    """The documents of a source, read only if they are few; and what to call it.

    More than :data:`WHOLE` bytes (of a file, a data set) or characters (of a list) become a :class:`Corpus`. Of a
    stream, which has no end that could be known, the first so many characters are all that is read.

    Args:
        source: as for :func:`documents`, with the same errors.
        size: bytes of the pieces that one long text is cut into.
        tokens: how many are wanted: a stream is read further for very many.
    """
    held, name = _located(source)
    if isinstance(held, Path):
        if held.is_file() and held.stat().st_size > WHOLE:
            return _corpus(held, size), name
        return refuse_empty(_from_file(held), name), name
    if _is_large_set(held):
        return Records(cast("Sequence[Any]", held), _document), name
    found: list[Document] = []
    characters = 0
    for record in held:
        found.append(_document(record))
        characters += len(plain(found[-1]))
        if characters > max(WHOLE, 16 * tokens) and not hasattr(held, "__len__"):
            break
    found = refuse_empty(found, name)
    return (Records(found, lambda document: document) if characters > WHOLE else found), name


def _is_large_set(held: Any) -> bool:
    """Whether it is a ``datasets.Dataset``, perhaps a selection of a table, with more bytes than are read whole."""
    table: Any = getattr(held, "data", None)
    known = hasattr(held, "__getitem__") and hasattr(table, "nbytes") and hasattr(table, "num_rows")
    return known and table.nbytes * len(held) > WHOLE * max(1, table.num_rows)


def refuse_empty(found: list[Document], name: str) -> list[Document]:
    """The documents that hold anything; raises :class:`CalibrationError` if none does."""
    found = [d for d in found if d and not (isinstance(d, str) and not d.strip())]
    if not found:
        raise CalibrationError(f"The calibration text ({name}) is empty.")
    return found


def _located(source: object) -> tuple[Path | Iterable[object], str]:
    """The file, or the records, that a source means; and what to call it."""
    if isinstance(source, Path):
        return _in_path(source), source.name
    if isinstance(source, str):
        return _named(source), source
    if isinstance(source, Mapping):
        raise CalibrationError(
            f"Calibration data with {listing_of(source)} are several sets in one; choose one of them."
        )
    if isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | set | frozenset):
        return ([source] if _is_chat(source) else source), _describe(source)
    raise CalibrationError(
        f"Calibration data are a file, a data set, a list of strings or token batches; got {type(source).__name__}."
    )


def _named(source: str) -> Path | Iterable[object]:
    if source in (BUILTIN, BUILTIN_EVALUATION):
        return [default_text("evaluation" if source == BUILTIN_EVALUATION else "calibration")]
    path = Path(source).expanduser()
    try:
        if source and path.exists():
            return _in_path(path)
    except OSError:  # too long for a name
        raise CalibrationError("A string names a file or a data set; give texts in a list: [text].") from None
    if path.suffix or source.startswith((".", "/", "~")):
        raise CalibrationError(f"The text file {source} does not exist.")
    return _from_hub(source)


def _in_path(path: Path) -> Path | Iterable[object]:
    if path.is_dir():
        return _from_folder(path)
    if path.exists() and not path.is_file():
        raise CalibrationError(f"{path} is no file but a device or a pipe, which cannot be read twice: name a file.")
    return path


def _from_file(path: Path) -> list[Document]:
    if path.suffix == ".jsonl" or _is_lines(path):
        return [_document(record) for _, record in json_lines(path)]
    text = _content(path)
    if path.suffix == ".json":
        records = _parsed(text, path, 1)
        return [_document(record) for record in (records if isinstance(records, list) else [records])]
    return [wikitext(text) if path.suffix == ".raw" else text]


def _corpus(path: Path, size: int) -> Corpus:
    """A file that is too large to be read whole; of JSON that is one value, only the tokens are fewer."""
    if path.suffix == ".jsonl" or _is_lines(path):
        return Lines.of(path, lambda line, number: _document(_parsed(line, path, number)))
    if path.suffix == ".json":
        _refuse_one_large_value(path)
        return Records(_from_file(path), lambda document: document)
    return Pieces(path, size, wikitext if path.suffix == ".raw" else str)


def _refuse_one_large_value(path: Path) -> None:
    size = path.stat().st_size
    if size > MOST_JSON:
        raise CalibrationError(
            f"{path} is one JSON value of {size / 2**30:.1f} GiB, which would have to be in memory whole, several "
            f"times over. Write a record a line (a .jsonl file), of which only what is needed is read."
        )


def _is_lines(path: Path) -> bool:
    """Whether a ``.json`` file holds a record a line, as the shards of C4 do: its first line is a whole object."""
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open("rb") as file:
        first, more = file.readline(LONGEST_LINE).strip(), file.read(1)
    if not (more and first.startswith(b"{") and first.endswith(b"}")):
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The records of a ``.jsonl`` file, each after the number of its line, from 1; blank lines are skipped.

    Raises:
        CalibrationError: the file cannot be read, or a line is not JSON.
    """
    # not splitlines(): JSON strings may hold U+2028 and the like as they are
    for number, line in enumerate(_content(path).split("\n"), 1):
        if line.strip():
            yield number, _parsed(line, path, number)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"The text file {path} cannot be read: {error}") from error


def wikitext(raw: str) -> str:
    """WikiText's raw layout joined the way its perplexities are usually measured: blank lines become empty, the
    others keep their newline, and two newlines stand between lines."""
    return "\n\n".join("" if not line.strip() else line + "\n" for line in raw.split("\n"))


def _parsed(text: str, path: Path, line: int) -> Any:
    try:
        return json.loads(text.removeprefix("\ufeff"))  # a mark that some editors put before a file
    except RecursionError as error:
        raise CalibrationError(f"{path}, line {line}, cannot be read as JSON: it is nested too deeply.") from error
    except ValueError as error:  # broken; or numbers of thousands of digits
        raise CalibrationError(f"{path}, line {line}, is not JSON: {first_line(error)}") from error


def _from_folder(folder: Path) -> Iterable[object]:
    """The data set that a folder holds: one that was saved by ``save_to_disk``, or files that ``datasets`` knows."""
    import datasets

    try:
        saved = (folder / "dataset_info.json").is_file()
        loaded = datasets.load_from_disk(folder) if saved else datasets.load_dataset(str(folder), split="train")
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise CalibrationError(
            f"{folder} is a folder, and no data set can be read from it ({first_line(error)}). Name a file in it."
        ) from error
    return cast("Iterable[object]", loaded)


def _from_hub(name: str) -> Iterable[object]:
    import datasets

    dataset, config, split = (*name.split(":"), "", "")[:3]
    _refuse_absent(dataset, name)
    try:
        loaded = datasets.load_dataset(dataset, config or None, split=split or "train")
    except Exception as error:  # the library raises its own, the hub client's, and OSError
        if is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CalibrationError(f"Neither a file nor a data set is called {name!r}: {reason}") from error
    return cast("Iterable[object]", loaded)


def _refuse_absent(dataset: str, name: str) -> None:
    """One quick question first: ``datasets`` itself goes on asking for half a minute."""
    if Path(dataset).exists():
        return
    answer, reason = hub.ask(dataset, "README.md", "dataset")
    if answer == "no such name":
        raise CalibrationError(f"Neither a file nor a data set is called {name!r}.{did_you_mean(name, NAMES)}")
    if answer == "unreachable" and not hub.is_cached(dataset, "README.md", "dataset"):
        raise CalibrationError(
            f"Neither a file nor a data set is called {name!r}: it is not in the hub's cache on this machine, and the "
            f"hub cannot be asked ({reason}).{did_you_mean(name, NAMES)}"
        )


def plain(document: Document) -> str:
    """The text of a document; of a chat what was said, a message a line."""
    return document if isinstance(document, str) else "\n".join(message["content"] for message in document)


def _is_chat(source: Iterable[object]) -> bool:
    """Whether it is one list of messages, and not one of documents."""
    return (
        isinstance(source, list | tuple)
        and bool(source)
        and all(isinstance(item, Mapping) and _speaks(item.keys()) for item in source)
    )


def _speaks(fields: Set[str]) -> bool:
    return bool({"role", "from"} & fields and {"content", "value"} & fields)


def _document(record: object) -> Document:
    """Chats first, since a record that has one often holds it rendered as text as well (Alpaca)."""
    if isinstance(record, str):
        return record
    if isinstance(record, list | tuple) and record and all(isinstance(message, Mapping) for message in record):
        return _chat(record, "chat")
    if isinstance(record, Mapping):
        for field in CHAT_FIELDS:
            if _is_there(record.get(field)):
                return _chat(record[field], f"'{field}'")
        question, answer = _first(record, QUESTION_FIELDS), _first(record, ANSWER_FIELDS)
        if question and answer:
            return _exchange(record, question, answer)
        for field in TEXT_FIELDS:
            if isinstance(record.get(field), str):
                return str(record[field])
        if question:
            return _exchange(record, question, None)
    raise CalibrationError(
        f"A record of {listing_of(record)} is no document: a string was expected, or a field 'text' ('content', "
        f"'document'), 'messages' ('conversations'), 'instruction' or 'prompt'."
    )


def _first(record: Mapping[str, Any], fields: Sequence[str]) -> object:
    """The first of the fields that is there and not empty; None if there is none."""
    return next((record[field] for field in fields if _is_there(record.get(field))), None)


def _is_there(value: object) -> bool:
    """Whether a field holds anything: not the nothing of JSON, of a table (NaN), or of an array."""
    if hasattr(value, "__len__"):
        return len(cast("Any", value)) > 0
    return bool(value) and value == value


def _chat(messages: Any, what: str) -> list[dict[str, str]]:
    """Messages as a chat."""
    messages = messages.tolist() if hasattr(messages, "tolist") else messages  # an array, from a table
    if not isinstance(messages, list | tuple):
        raise CalibrationError(f"The {what} of a record must be a list of messages; got {listing_of(messages)}.")
    return [_message(message) for message in messages]


def _exchange(record: Mapping[str, Any], question: object, answer: object) -> Document:
    """A question, with what belongs to it, and its answer, as a chat."""
    context = _first(record, CONTEXT_FIELDS)
    if context and isinstance(question, str):
        question = f"{question}\n{context}"
    return [*_turns(question, "user"), *_turns(answer, "assistant")]


def _turns(said: object, role: str) -> list[dict[str, str]]:
    """Text as a turn of that role; messages as they are."""
    if isinstance(said, list | tuple) or hasattr(said, "tolist"):
        return _chat(said, "turns")
    return [{"role": role, "content": _plain(said)}] if said else []


def _message(message: object) -> dict[str, str]:
    """A turn of a chat; ShareGPT's field names (SlimOrca) are translated."""
    if not isinstance(message, Mapping) or not (role := message.get("role") or message.get("from")):
        raise CalibrationError(f"A chat message needs 'role' and 'content'; got {listing_of(message)}.")
    if not isinstance(role, str):
        raise CalibrationError(f"The 'role' of a chat message must be text; got {listing_of(role)}.")
    content = _first(message, ("content", "value"))
    return {"role": SHAREGPT_ROLES.get(role, role), "content": "" if content is None else _plain(content)}


def _plain(content: object) -> str:
    """The text of a message; of one in pieces (``[{"type": "text", "text": …}]``) the pieces that are text."""
    if isinstance(content, list | tuple):
        texts = [piece.get("text") or "" if isinstance(piece, Mapping) else piece for piece in content]
        return "".join(map(_plain, texts))
    if not isinstance(content, str | int | float):
        raise CalibrationError(f"The text of a chat message must be text; got {listing_of(content)}.")
    return str(content)


def listing_of(record: object) -> str:
    """What a record looks like, for messages."""
    return f"fields {sorted(record)}" if isinstance(record, Mapping) else f"type {type(record).__name__}"


def _describe(source: Iterable[object]) -> str:
    if isinstance(source, Sequence):
        return f"{len(source)} documents"
    return type(source).__name__


EVALUATION_SHARE = 0.2
"""Share of the text kept for evaluation; calibration never sees it."""


def default_text(part: str) -> str:
    """About 460,000 characters in all: prose on Python, with some code.

    Args:
        part: ``calibration`` for the beginning, ``evaluation`` for the rest.
    """
    whole = [topics[name] for name in sorted(topics)]
    split = round(len(whole) * (1 - EVALUATION_SHARE))
    return "\n\n".join(whole[:split] if part == "calibration" else whole[split:])
