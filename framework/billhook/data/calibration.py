"""Calibration: which data, and how it becomes rows of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import attrs
from transformers import PreTrainedModel

from billhook.data.blend import Blend, Part, allocate, largest_remainder
from billhook.data.corpus import Corpus
from billhook.data.encoding import refuse_no_tokenizer
from billhook.data.given import keep, ready_tokens
from billhook.data.pool import Pool
from billhook.data.record import CalibrationRecord, PartRecord
from billhook.data.self_generated import SELF, SelfGenerated, named
from billhook.data.shipped import TEXTS, kinds_of, shipped_pool
from billhook.data.text_layout import TextLayout
from billhook.data.text_layout import tokenize_whole as tokenize_whole
from billhook.data.text_source import opened
from billhook.data.tokens import TokenBatch, Tokens
from billhook.errors import CalibrationError, InvalidConfig
from billhook.json_values import build
from billhook.log import logger
from billhook.progress import Progress, silent
from billhook.value_kinds import shown, typed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@attrs.frozen(kw_only=True, field_transformer=typed)
class Calibration:
    """Calibration data and its layout. Deterministic: same source, options and tokenizer, same tokens.

    Attributes:
        source: ``"texts"``, those of several kinds that come with billhook, or one kind of them (``"texts:web"``); a
            text or JSONL file, a ``datasets`` name or object, a list of strings, or ready token batches (then the
            rest of the options is unused): tensors of ids or mappings with ``input_ids``, in a list, a generator or a
            ``DataLoader``. Or text that the model writes itself, ``"self"`` or a :class:`billhook.SelfGenerated`; or
            ``"builtin"``, Python's own help, for tests; or a :class:`billhook.Blend` of all these.
        samples: rows of tokens wanted; with fewer at hand all are used, and a warning says so.
        seqlen: tokens in a row.
        seed: which rows are taken, and what the model writes.
        packing: ``"pack"`` joins all documents with blank lines and cuts the tokens into full rows; ``"pad"`` gives
            each document a row of its own, cut or padded on the right.
        chat_template: put every document through the tokenizer's chat template (plain text as a user's message), and
            add no special tokens but the template's. In a blend, those of the other parts. The chats among the texts
            that come with billhook go through it in any case, if there is one.
        guard: what ``source`` takes, of another kind of text: where repairs are checked (:attr:`Repair.guard` says on
            how much of it). If None, text that the model writes; where it has written the calibration text already,
            the one that comes with Python.
        begin: begin every packed row with the tokens that the tokenizer puts before a text (``<bos>``), where it does
            so: the model is used that way, and the first token of a row has activations far larger than the others.
            Chats that go through a template begin as it writes them. If False, special tokens are only where the
            tokenizer puts them: before the whole text, or before each document if they are padded.
    """

    source: object = attrs.field(default=TEXTS, converter=keep)
    samples: int = 128
    seqlen: int = 512
    seed: int = 0
    packing: Literal["pack", "pad"] = "pack"
    chat_template: bool = False
    guard: object = attrs.field(default=None, converter=keep)
    begin: bool = True

    def __attrs_post_init__(self) -> None:
        if self.samples < 1:
            raise InvalidConfig(f"The 'samples' of Calibration must be at least 1; got {self.samples}.")
        if self.seqlen < 2:
            raise InvalidConfig(f"The 'seqlen' of Calibration must be at least 2; got {self.seqlen}.")
        if not -(2**63) <= self.seed < 2**64:
            raise InvalidConfig(f"The 'seed' of Calibration must lie between -2^63 and 2^64; got {shown(self.seed)}.")
        if max(self.samples, self.seqlen) >= 2**31:
            raise InvalidConfig(
                f"The 'samples' and 'seqlen' of Calibration must be below 2^31; got {shown(self.samples)} "
                f"and {shown(self.seqlen)}."
            )
        if self.packing not in ("pack", "pad"):
            raise InvalidConfig(f"The 'packing' of Calibration must be 'pack' or 'pad'; got {self.packing!r}.")
        if self.chat_template and isinstance(named(self.source), SelfGenerated):
            raise InvalidConfig(
                "The 'chat_template' of Calibration is for text that is given. What the model writes begins with the "
                "'start' of SelfGenerated."
            )

    @classmethod
    def of(cls, given: object) -> Calibration:
        """``given`` itself if it is one, the default for None, else a calibration with ``given`` as its source."""
        if isinstance(given, Calibration):
            return given
        return cls() if given is None else cls(source=given)

    def tokenize(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        model: PreTrainedModel | Callable[[], PreTrainedModel] | None = None,
        *,
        progress: Progress = silent,
    ) -> Tokens:
        """The rows of tokens.

        Args:
            tokenizer: of the model; not needed for ready batches.
            model: writes self-generated text, and is not needed for other sources; or a function that loads it, called
                when all text has been read.
            progress: told how far the model is with writing.

        Raises:
            CalibrationError: the text is missing, empty or shorter than one row, or there is no tokenizer for it, or
                no model to write it.
        """
        if (ready := ready_tokens(self.source)) is not None:
            return ready
        parts = self._parts()
        pools = [self._pool(named(source), tokenizer, model, progress) for source, _ in parts]
        weights = [weight for _, weight in parts]
        counts = allocate(self.samples, weights, [pool.count for pool in pools])
        _warn_of_shortage(self, pools, largest_remainder(self.samples, weights), counts)
        drawn = [pool.draw(count) for pool, count in zip(pools, counts, strict=True) if count]
        if len(parts) == 1:
            return attrs.evolve(drawn[0], parts=_records(parts, pools, counts))
        return self._shuffled(drawn, _records(parts, pools, counts))

    def record(self, tokens: Tokens, guard: Tokens | None = None) -> CalibrationRecord:
        """What a plan remembers of ``tokens``, which :meth:`tokenize` made, and of the text they were checked by."""
        return CalibrationRecord(
            source=str(self.source) if isinstance(self.source, str | Path) else tokens.source,
            samples=self.samples,
            seqlen=self.seqlen,
            seed=self.seed,
            packing=self.packing,
            chat_template=self.chat_template,
            begin=self.begin,
            token_count=tokens.token_count,
            fingerprint=tokens.fingerprint,
            parts=tokens.parts,
            guard=None if guard is None else _guard_record(self.guard, guard),
        )

    @classmethod
    def from_record(cls, record: CalibrationRecord) -> Calibration:
        """The calibration that a plan remembers; its sources must be such that a name or path can say."""
        return cls(
            source=_source_of(record),
            samples=record.samples,
            seqlen=record.seqlen,
            seed=record.seed,
            packing=cast(Literal["pack", "pad"], record.packing),
            chat_template=record.chat_template,
            guard=None if record.guard is None else _guard_of(record.guard),
            begin=record.begin,
        )

    def _parts(self) -> tuple[Part, ...]:
        """The sources and their weights; a single source counts 1."""
        return self.source.parts if isinstance(self.source, Blend) else ((self.source, 1),)

    def _pool(
        self,
        source: object,
        tokenizer: PreTrainedTokenizerBase | None,
        model: PreTrainedModel | Callable[[], PreTrainedModel] | None,
        progress: Progress,
    ) -> Pool:
        if isinstance(source, SelfGenerated):
            return self._unwritten(source, tokenizer, model, progress)
        if (ready := ready_tokens(source)) is not None:
            return Pool.of_rows(ready, ready.source, self.seed)
        layout = TextLayout(
            tokenizer=refuse_no_tokenizer(tokenizer),
            seqlen=self.seqlen,
            packing=self.packing,
            chat_template=self.chat_template,
            begin=self.begin,
        )
        if kinds := kinds_of(source):
            return shipped_pool(kinds, layout, str(source), self.seed)
        found, name = opened(source, size=layout.piece, tokens=self.samples * self.seqlen)
        if isinstance(found, Corpus):
            return Pool.of_drawn(layout.drawn(found, name, count=self.samples, seed=self.seed), name)
        return Pool.of_rows(layout.rows(found, name), name, self.seed)

    def _unwritten(
        self,
        author: SelfGenerated,
        tokenizer: PreTrainedTokenizerBase | None,
        model: PreTrainedModel | Callable[[], PreTrainedModel] | None,
        progress: Progress,
    ) -> Pool:
        """What a model will write: it is asked for last, when all text was found to be good."""
        if model is None:
            raise CalibrationError("Self-generated text is written by the model: give it, tokenize(tokenizer, model).")

        def write(rows: int) -> Tokens:
            writer = model if isinstance(model, PreTrainedModel) else model()
            return author.write(writer, tokenizer, rows=rows, seqlen=self.seqlen, seed=self.seed, progress=progress)

        return Pool(name=SELF, count=None, draw=write)

    def _shuffled(self, drawn: Sequence[Tokens], parts: tuple[PartRecord, ...]) -> Tokens:
        """The rows of all parts in one order, padded on the right where their lengths differ."""
        rows = Tokens.from_batches([TokenBatch(tokens.ids, tokens.keep) for tokens in drawn])
        name = ", ".join(f"{part.source} ({part.rows} rows)" for part in parts)
        shuffled = Pool.of_rows(rows, name, self.seed).draw(len(rows.ids))
        return attrs.evolve(shuffled, parts=parts)


def _warn_of_shortage(
    calibration: Calibration, pools: Sequence[Pool], fair: Sequence[int], given: Sequence[int]
) -> None:
    """Say which parts give less than their weight asks for (``fair``), and whether all together give too little."""
    for pool, share, count in zip(pools, fair, given, strict=True):
        if len(pools) > 1 and not share and not count:
            logger.warning("The part {} is too light to give one of {} rows.", pool.name, calibration.samples)
        elif len(pools) > 1 and count < share:
            logger.warning(
                "The part {} has {} rows of {} tokens; its weight asks for {}. The others make up for it if they can.",
                pool.name, count, calibration.seqlen, share,
            )  # fmt: skip
    if sum(given) < calibration.samples:
        logger.warning(
            "The text ({}) gives {} rows of {} tokens; {} were asked for. All are used.",
            ", ".join(pool.name for pool in pools), sum(given), calibration.seqlen, calibration.samples,
        )  # fmt: skip


def _records(parts: Sequence[Part], pools: Sequence[Pool], counts: Sequence[int]) -> tuple[PartRecord, ...]:
    """What a plan remembers of the parts; nothing for a single text, which its source says already."""
    if len(parts) == 1 and not isinstance(named(parts[0][0]), SelfGenerated):
        return ()
    return tuple(
        PartRecord(
            source=str(source) if isinstance(source, str | Path) else pool.name,
            weight=weight,
            rows=count,
            options=attrs.asdict(author) if isinstance(author := named(source), SelfGenerated) else {},
        )
        for (source, weight), pool, count in zip(parts, pools, counts, strict=True)
    )


def _guard_record(given: object, tokens: Tokens) -> PartRecord:
    if len(tokens.parts) == 1:
        return attrs.evolve(tokens.parts[0], fingerprint=tokens.fingerprint)
    source = str(given) if isinstance(given, str | Path) else tokens.source
    return PartRecord(source=source, weight=1, rows=len(tokens.ids), fingerprint=tokens.fingerprint)


def _guard_of(record: PartRecord) -> object:
    return _author(record) if record.source == SELF else record.source


def _source_of(record: CalibrationRecord) -> object:
    if not record.parts:
        return record.source
    sources = [_author(part) if part.source == SELF else part.source for part in record.parts]
    weights = [part.weight for part in record.parts]
    return sources[0] if len(sources) == 1 else Blend(zip(sources, weights, strict=True))


def _author(part: PartRecord) -> SelfGenerated:
    return cast(SelfGenerated, build(cast("Any", SelfGenerated), part.options, "self-generated text"))
