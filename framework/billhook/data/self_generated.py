"""SelfGenerated: calibration text that the model writes itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from billhook.data.author import Author
from billhook.data.text_layout import templated_text
from billhook.data.tokens import Tokens
from billhook.errors import CalibrationError, InvalidConfig
from billhook.model.writer import double_device
from billhook.progress import Progress, silent
from billhook.value_kinds import typed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SELF = "self"
"""The name of the source ``SelfGenerated()``."""

SELF_CHAT = "self:chat"
"""The name of the source ``SelfGenerated(chat=True)``."""

STAGE = "writing text"
"""What progress calls it; its steps are tokens."""


@attrs.frozen(kw_only=True, field_transformer=typed)
class SelfGenerated:
    """A source of calibration data that needs none: the model writes rows of tokens by sampling.

    After Williams et al., "Self-calibration for Language Model Quantization and Pruning" (arXiv 2410.17170), whose
    temperature changes while a text begins. The defaults sample from the model's own distribution.

    Rows are exactly ``seqlen`` tokens. Where a document ends the model writes its end token and goes on, as in the
    packed text it was trained on; a chat goes on with the next turn. Row *n* depends on the seed and on *n*: not on how
    many rows there are, nor, up to rounding, on ``batch_rows``. The model's weights, mode and generation config stay
    as they are, and so do the global random generators.

    Attributes:
        temperature: what logits are divided by; 0 takes the likeliest token each time, so that all rows are alike.
        first_temperature: that of a row's first sampled token, if it is to be another one: a high one makes rows begin
            in more different ways.
        warming: tokens over which the temperature goes from the first one to ``temperature``, linearly.
        top_k: sample among this many of the likeliest tokens; None for all of them.
        top_p: sample among the likeliest tokens that together have this probability.
        start: text that every row begins with, special tokens and all; None for the token that begins a text, or, if
            the model has none, the one that ends it.
        chat: begin rows as a chat begins by the tokenizer's template, up to the user's first word: the model writes
            what the user says, the end of the turn, and its own answer.
        batch_rows: rows written at once. More are faster, and their keys and values take more memory.
    """

    temperature: float = 1.0
    first_temperature: float | None = None
    warming: int = 10
    top_k: int | None = None
    top_p: float = 1.0
    start: str | None = None
    chat: bool = False
    batch_rows: int = 32

    def __attrs_post_init__(self) -> None:
        for name in ("temperature", "first_temperature"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise InvalidConfig(f"The {name!r} of SelfGenerated must be a number from 0 on; got {value}.")
        for name in ("warming", "top_k", "batch_rows"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidConfig(f"The {name!r} of SelfGenerated must be at least 1; got {value}.")
        if self.chat and self.start is not None:
            raise InvalidConfig("The 'chat' of SelfGenerated says how rows begin, and so does its 'start': give one.")
        if not 0 < self.top_p <= 1:
            raise InvalidConfig(f"The 'top_p' of SelfGenerated must be above 0 and at most 1; got {self.top_p}.")

    def write(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        rows: int,
        seqlen: int,
        seed: int = 0,
        progress: Progress = silent,
    ) -> Tokens:
        """``rows`` rows of ``seqlen`` tokens.

        Args:
            model: who writes; on whatever device it is.
            tokenizer: knows how texts begin; ids that it does not have are never written. Without one the model's
                configs say how texts begin.
            rows: how many.
            seqlen: tokens in a row, the start included.
            seed: of the generator that all randomness comes from. It is on the CPU, whatever the model is on.
            progress: told how many tokens there are.

        Raises:
            CalibrationError: no start is known, it leaves no room, the rows are longer than the model takes, or the
                model answers with NaN.
        """
        author = Author.of(model, tokenizer, chat_start(tokenizer) if self.chat else self.start)
        generator = torch.Generator().manual_seed(seed)
        # one call a row: the first rows of many are the rows of few
        draws = torch.stack([torch.rand(seqlen, generator=generator, dtype=torch.float64) for _ in range(rows)])
        written: list[Tensor] = []
        for batch in draws.split(self.batch_rows):
            done = sum(ids.numel() for ids in written)
            written.append(author.write(batch, self.choose, partial(_report, progress, done, draws.numel())))
        ids = torch.cat(written)
        return Tokens(ids=ids, keep=torch.ones_like(ids, dtype=torch.bool), source=SELF)

    def choose(self, logits: Tensor, sampled: int, draws: Tensor) -> Tensor:
        """The next token of each row.

        Args:
            logits: ``[batch, vocab]``, float32; minus infinity for what must not come.
            sampled: how many tokens were sampled in these rows before.
            draws: ``[batch]`` float64, uniform in [0, 1): the share of the probability that lies before the token,
                tokens in the order of their ids.

        Returns:
            ``[batch]`` int64, on the device of ``logits``.
        """
        temperature = self.temperature_at(sampled)
        if temperature == 0:
            return logits.argmax(-1)
        scores = self._truncated(logits / temperature)
        heap = scores.to(double_device(scores.device)).double().softmax(-1).cumsum(-1)
        drawn = torch.searchsorted(heap, draws[:, None].to(heap.device) * heap[:, -1:], right=True)[:, 0]
        return drawn.clamp(max=logits.shape[-1] - 1).to(logits.device)  # a product may round up to the whole heap

    def temperature_at(self, sampled: int) -> float:
        """What the logits are divided by when ``sampled`` tokens of the row have been sampled."""
        if self.first_temperature is None:
            return self.temperature
        gone = min(1.0, sampled / self.warming)
        return (1 - gone) * self.first_temperature + gone * self.temperature

    def _truncated(self, scores: Tensor) -> Tensor:
        from transformers import TopKLogitsWarper, TopPLogitsWarper

        nobody = torch.LongTensor()  # what was written so far does not matter to these two
        if self.top_k is not None:
            scores = TopKLogitsWarper(self.top_k)(nobody, scores)
        if self.top_p < 1:
            scores = TopPLogitsWarper(self.top_p)(nobody, scores)
        return scores


def _report(progress: Progress, before: int, total: int, tokens: int) -> None:
    progress(STAGE, before + tokens, total)


def named(source: object) -> object:
    """What a name of self-generated text stands for; any other source is itself."""
    if not isinstance(source, str):
        return source
    return {SELF: SelfGenerated(), SELF_CHAT: SelfGenerated(chat=True)}.get(source, source)


def chat_start(tokenizer: PreTrainedTokenizerBase | None) -> str:
    """What the tokenizer's chat template writes before the first word of a user.

    Raises:
        CalibrationError: there is no template, or it does not hold what the user says.
    """
    said = "Billhook?"
    if tokenizer is None or not getattr(tokenizer, "chat_template", None):
        raise CalibrationError("The tokenizer has no chat template, so no chat can begin by it: leave out chat=True.")
    templated = templated_text([{"role": "user", "content": said}], tokenizer)
    before, found, _ = templated.partition(said)
    if not found or not before:
        raise CalibrationError("The tokenizer's chat template does not say how a chat begins: leave out chat=True.")
    return before
