"""A small model that has learnt something, so that pruning it costs something that can be measured."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from billhook.data.tokens import Tokens

WORDS, SENTENCE, ROW = 32, 8, 32
"""Ids of the language, tokens a sentence has, tokens a row has."""

STEPS, ROWS_A_STEP, LEARNING_RATE = 220, 24, 4e-3
"""Enough for a perplexity near that of the language itself, in some seconds on one core."""

FIRST = 4
"""Ids below are the special ones of :func:`tiny_tokenizer`."""


def learnt_model(*, layers: int = 4, seed: int = 0) -> PreTrainedModel:
    """A Llama of ``layers`` layers and 32 columns that has learnt the language of :func:`learnt_tokens`.

    Trained when it is first asked for, in some seconds on one core, and once a process; every call gives a copy of its
    own. Same arguments, same weights on one machine. Its perplexity is a small part of that of guessing (28 words), and
    every layer that goes costs something.

    Args:
        layers: 2 to 8.
        seed: of weights and lessons; the global generator is left alone.
    """
    return copy.deepcopy(_trained(layers, seed))


def learnt_tokens(rows: int = 32, *, seed: int = 1) -> Tokens:
    """Text in the language that :func:`learnt_model` has learnt, ``[rows, 32]``; another seed gives other text.

    A sentence of 8 tokens: four words of which each mostly follows from the one before, and the same four again. So a
    model needs the next word's distribution, and attention to copy. The lessons have seeds of their own.
    """
    return Tokens(
        ids=_text(rows, torch.Generator().manual_seed(1_000_003 * (seed + 1))), keep=_all(rows), source="learnt"
    )


def _all(rows: int) -> Tensor:
    return torch.ones(rows, ROW, dtype=torch.bool)


def _text(rows: int, generator: torch.Generator) -> Tensor:
    """``[rows, ROW]`` int64."""
    sentences = rows * ROW // SENTENCE
    words = [torch.randint(FIRST, WORDS, (sentences,), generator=generator)]
    for _ in range(SENTENCE // 2 - 1):
        # the next word is one of two, by a rule over the last one
        choice = torch.randint(2, (sentences,), generator=generator)
        words.append(FIRST + (5 * (words[-1] - FIRST) + 3 + 7 * choice) % (WORDS - FIRST))
    half = torch.stack(words, dim=1)
    return torch.cat([half, half], dim=1).reshape(rows, ROW)


@functools.cache
def _trained(layers: int, seed: int) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]), torch.enable_grad(), _one_thread():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(_config(layers))
        generator = torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=STEPS)
        model.train()
        for _ in range(STEPS):
            ids = _text(ROWS_A_STEP, generator)
            logits = model(input_ids=ids, use_cache=False).logits
            loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.zero_grad()
    model.eval()
    return model


def _config(layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=WORDS,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums keep one order, whatever the machine has to offer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
