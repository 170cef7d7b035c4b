"""GGUF files: whole ones give their model, and what would be filled up or dropped in silence is refused by name."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tests.framework.reading.tiny_gguf import Tensors, also, renamed, tiny_llama, without, write_gguf

from billhook import load
from billhook.errors import BillhookError, ModelNotFound, UnusableModel
from billhook.model.loading import find
from billhook.reading.gguf_header import read_header

DOWN = "blk.1.ffn_down.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "whole.gguf", tiny_llama())


def test_a_whole_file_gives_the_model_that_was_written(whole: Path) -> None:
    model, _ = load(str(whole), dtype="float32")
    expected = tiny_llama().state_dict()
    assert {name: True for name in expected} == {
        name: torch.equal(weight, expected[name]) for name, weight in model.state_dict().items()
    }


def test_the_header_is_read_as_the_package_gguf_reads_it(whole: Path) -> None:
    from gguf import GGUFReader

    ours, theirs = read_header("whole", whole), GGUFReader(whole)
    assert list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    assert [ours.data_start + t.offset for t in ours.tensors.values()] == [t.data_offset for t in theirs.tensors]
    assert [t.size for t in ours.tensors.values()] == [t.n_bytes for t in theirs.tensors]
    assert ours.layer_count == 4
    assert ours.end <= whole.stat().st_size


@pytest.mark.parametrize(
    ("change", "scalars", "said"),
    [
        (without(DOWN), {}, r"is damaged: it lacks model\.layers\.1\.mlp\.down_proj\.weight\."),
        (without(DOWN, "blk.2.attn_q.weight"), {}, r"it lacks .* and 1 more weights"),
        (
            renamed({DOWN: "blk.1.ffn_dXwn.weight"}),
            {},
            r"lacks model\.layers\.1\.mlp\.down_proj\.weight, and holds blk\.1\.ffn_dXwn\.weight",
        ),
        (also(extra__weight=torch.ones(4)), {}, r"weights that a LlamaForCausalLM does not have.*extra\.weight"),
        (also(blk__1__attn_q__bias=torch.ones(16)), {}, r"does not have.*blk\.1\.attn_q\.bias"),
        (without(), {"block_count": 6}, r"its header says 6 layers, and it lacks all of blk\.4 and of 1 more"),
        (without(), {"block_count": 3}, r"more layers than its header says \(llama\.block_count 3\): blk\.3"),
        (
            without(),
            {"feed_forward_length": 20},
            r"is not of its config's sizes: model\.layers\.0\.mlp\.\w+\.weight is",
        ),
    ],
)
def test_tensors_that_lack_or_have_no_place_are_named(
    tmp_path: Path, change: object, scalars: dict[str, int], said: str
) -> None:
    file = write_gguf(tmp_path / "changed.gguf", tiny_llama(), change, **scalars)  # type: ignore[arg-type] # parametrized
    with pytest.raises(UnusableModel, match=rf"The GGUF file .*{said}"):
        load(str(file))


@pytest.mark.parametrize("key", ["embedding_length", "feed_forward_length", "attention.head_count"])
def test_a_header_that_asks_for_more_than_any_memory_is_not_called_out_of_memory(tmp_path: Path, key: str) -> None:
    file = write_gguf(tmp_path / "huge.gguf", tiny_llama(), without(), "llama", **{key: 2**31 - 1})
    with pytest.raises(BillhookError, match=r"not of its header's sizes|cannot be loaded: .*not a multiple") as caught:
        load(str(file))
    assert "\n" not in str(caught.value)


def test_the_frequencies_of_llama_3_end_up_in_the_config(tmp_path: Path) -> None:
    """GGUF has them as a tensor of divisors, which transformers drops; against the formula of its own class."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    stretched = tiny_llama(hidden_size=128, num_attention_heads=2, head_dim=64, rope_parameters=rope)
    plain = tiny_llama(hidden_size=128, num_attention_heads=2, head_dim=64)
    ours, theirs = (m.model.rotary_emb.inv_freq for m in (stretched, plain))
    assert not torch.equal(ours, theirs)
    file = write_gguf(tmp_path / "long.gguf", stretched, also(rope_freqs__weight=theirs / ours))
    model, _ = load(str(file), dtype="float32")
    assert model.config.rope_parameters == rope
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, ours)


def test_frequencies_that_no_config_can_say_are_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "odd.gguf", tiny_llama(), also(rope_freqs__weight=torch.tensor([1.0, 3.0])))
    with pytest.raises(UnusableModel, match=r"stretches its rotary frequencies \(rope_freqs\.weight\)"):
        load(str(file))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.999])
def test_a_file_that_was_cut_short_is_one_line_before_anything_is_read(
    whole: Path, tmp_path: Path, share: float
) -> None:
    data = whole.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[: math.floor(len(data) * share)])
    with pytest.raises(ModelNotFound, match=r"cut short|no whole GGUF file") as caught:
        find(str(tmp_path / "cut.gguf")).skeleton()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_a_header_with_other_bytes_in_it_is_at_most_one_error(whole: Path, tmp_path: Path, seed: int) -> None:
    data = whole.read_bytes()
    start = read_header("whole", whole).data_start
    generator = torch.Generator().manual_seed(seed)
    for number in range(300):
        place, value = (int(torch.randint(0, top, (), generator=generator)) for top in (start, 256))
        changed = bytearray(data)
        changed[place] = value
        (tmp_path / "changed.gguf").write_bytes(changed)
        try:
            read_header(f"changed {number}", tmp_path / "changed.gguf")
        except BillhookError as error:
            assert "\n" not in str(error)  # noqa: PT017 # most of the bytes can be anything


def test_the_changes_of_this_page_change_something() -> None:
    tensors: Tensors = {DOWN: torch.ones(1).numpy()}
    assert without(DOWN)(tensors) == {}
    assert list(renamed({DOWN: "a"})(tensors)) == ["a"]
    assert list(also(a__b=torch.ones(1))(tensors)) == [DOWN, "a.b"]
