"""ActivationCache: a dictionary that never takes more bytes than it may, on any tier."""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from billhook import ActivationCache, CacheBudget
from billhook.errors import InvalidConfig

CPU = torch.device("cpu")
KIB = 1024


def kib(count: int = 1, value: float = 0.0) -> Tensor:
    """A tensor of ``count`` KiB."""
    return torch.full((count * KIB // 4,), float(value))


def files_in(folder: Path) -> list[Path]:
    return [*folder.rglob("*.safetensors")]


@pytest.mark.parametrize("tier", ["device", "host", "disk"])
def test_a_negative_budget_is_refused(tier: str) -> None:
    with pytest.raises(InvalidConfig, match=f"'{tier}' bytes of CacheBudget must not be negative"):
        CacheBudget(**{tier: -1})  # type: ignore[arg-type] # all three are int; mypy thinks of `folder` too


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("tier", ["host", "disk"])
def test_what_comes_out_is_what_went_in(dtype: torch.dtype, tier: str, tmp_path: Path) -> None:
    tensor = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)).to(dtype).transpose(0, 1)
    budget = CacheBudget(host=KIB if tier == "host" else 0, disk=KIB, folder=tmp_path)
    with ActivationCache(budget) as cache:
        assert cache.put(("a", 1), tensor)
        found = cache.get(("a", 1), CPU)
        assert cache.used[tier] == tensor.numel() * tensor.element_size()
    assert found is not None
    assert found.dtype == dtype
    assert found.equal(tensor)


def test_what_was_not_put_is_not_there() -> None:
    with ActivationCache() as cache:
        assert cache.get(("a",), CPU) is None
        assert ("a",) not in cache


def test_host_memory_is_filled_before_the_disk(tmp_path: Path) -> None:
    with ActivationCache(CacheBudget(host=2 * KIB, disk=2 * KIB, folder=tmp_path)) as cache:
        kept = [cache.put((f"{number}",), kib()) for number in range(5)]
        assert kept == [True, True, True, True, False]
        assert cache.used == {"device": 0, "host": 2 * KIB, "disk": 2 * KIB}
        assert len(files_in(tmp_path)) == 2


def test_a_cpu_tensor_does_not_use_the_devices_bytes() -> None:
    with ActivationCache(CacheBudget(device=KIB, host=0)) as cache:
        assert not cache.put(("a",), kib())


@st.composite
def operations(draw: st.DrawFn) -> list[tuple[str, tuple[str, int], int, str | None]]:
    key = st.tuples(st.sampled_from(["stream", "rows"]), st.integers(0, 6))
    step = st.tuples(st.sampled_from(["put", "discard"]), key, st.integers(0, 4), st.sampled_from([None, "stream"]))
    return draw(st.lists(step, max_size=25))


@given(steps=operations(), host=st.integers(0, 6), disk=st.integers(0, 6))
def test_no_budget_is_ever_exceeded_and_the_books_are_right(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, tuple[str, int], int, str | None]],
    host: int,
    disk: int,
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    expected: dict[tuple[str, int], Tensor] = {}
    with ActivationCache(CacheBudget(host=host * KIB, disk=disk * KIB, folder=folder)) as cache:
        for number, (verb, key, size, instead_of) in enumerate(steps):
            if verb == "discard":
                cache.discard(key)
            elif cache.put(key, kib(size, number), instead_of=instead_of):
                expected.setdefault(key, kib(size, number))
            expected = {key: tensor for key, tensor in expected.items() if key in cache}
            assert cache.used["host"] <= host * KIB
            assert cache.used["disk"] <= disk * KIB
            assert sum(cache.used.values()) == sum(4 * tensor.numel() for tensor in expected.values())
        for key, tensor in expected.items():
            found = cache.get(key, CPU)
            assert found is not None
            assert found.equal(tensor)
    assert files_in(folder) == []


def test_a_key_keeps_its_first_tensor() -> None:
    with ActivationCache() as cache:
        cache.put(("a",), kib(1, 1.0))
        assert cache.put(("a",), kib(1, 2.0))
        found = cache.get(("a",), CPU)
        assert found is not None
        assert float(found[0]) == 1.0
        assert cache.used["host"] == KIB


def test_entries_of_another_kind_make_room_latest_first() -> None:
    with ActivationCache(CacheBudget(host=3 * KIB)) as cache:
        for number in range(3):
            cache.put(("stream", number), kib())
        assert cache.put(("rows", 0), kib(2), instead_of="stream")
        assert [("stream", number) in cache for number in range(3)] == [True, False, False]


def test_entries_of_other_kinds_are_left_alone() -> None:
    with ActivationCache(CacheBudget(host=2 * KIB)) as cache:
        cache.put(("rows", 0), kib(2))
        assert not cache.put(("rows", 1), kib(), instead_of="stream")
        assert ("rows", 0) in cache


def test_a_view_does_not_keep_the_storage_it_looks_into() -> None:
    with ActivationCache() as cache:
        cache.put(("a",), kib(64)[: KIB // 4])
        found = cache.get(("a",), CPU)
        assert found is not None
        assert found.untyped_storage().nbytes() == KIB == cache.used["host"]


def test_a_stored_tensor_carries_no_graph() -> None:
    with ActivationCache() as cache:
        cache.put(("a",), kib().requires_grad_() * 2)
        found = cache.get(("a",), CPU)
        assert found is not None
        assert not found.requires_grad


def test_discarding_gives_the_bytes_and_the_file_back(tmp_path: Path) -> None:
    with ActivationCache(CacheBudget(host=0, disk=KIB, folder=tmp_path)) as cache:
        cache.put(("a",), kib())
        cache.discard(("a",))
        cache.discard(("a",))
        assert cache.used["disk"] == 0
        assert files_in(tmp_path) == []


def test_a_whole_kind_can_be_discarded() -> None:
    with ActivationCache() as cache:
        for key in (("a", 1), ("b", 1), ("a", 2)):
            cache.put(key, kib())
        cache.discard_kind("a")
        cache.discard_kind("none of this")
        assert [key in cache for key in (("a", 1), ("b", 1), ("a", 2))] == [False, True, False]
        assert cache.used["host"] == KIB


def test_closing_deletes_the_files_and_their_folder(tmp_path: Path) -> None:
    cache = ActivationCache(CacheBudget(host=0, disk=KIB, folder=tmp_path))
    cache.put(("a",), kib())
    assert len(files_in(tmp_path)) == 1
    cache.close()
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_the_context_deletes_the_files_too(tmp_path: Path) -> None:
    cache = ActivationCache(CacheBudget(host=0, disk=KIB, folder=tmp_path))
    cache.put(("a",), kib())
    with pytest.raises(RuntimeError, match="stop"), cache:
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


def test_a_closed_cache_is_empty_and_can_be_used_again(tmp_path: Path) -> None:
    cache = ActivationCache(CacheBudget(host=KIB, disk=KIB, folder=tmp_path))
    for _ in range(2):
        assert cache.put(("a",), kib())
        assert cache.put(("b",), kib())
        cache.close()
        assert cache.used == {"device": 0, "host": 0, "disk": 0}
        assert ("a",) not in cache


def test_no_folder_is_made_before_the_disk_is_needed(tmp_path: Path) -> None:
    with ActivationCache(CacheBudget(disk=KIB, folder=tmp_path)) as cache:
        cache.put(("a",), kib())
        assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
def test_a_gpu_tensor_spills_from_the_device_to_pinned_host_memory_to_disk(tmp_path: Path) -> None:
    cuda = torch.device("cuda")
    with ActivationCache(CacheBudget(device=KIB, host=KIB, disk=KIB, folder=tmp_path)) as cache:
        kept = [cache.put(("a", number), kib(1, number).to(cuda)) for number in range(4)]
        assert kept == [True, True, True, False]
        assert cache.used == {"device": KIB, "host": KIB, "disk": KIB}
        for number in range(3):
            found = cache.get(("a", number), cuda)
            assert found is not None
            assert found.device.type == "cuda"
            assert found.equal(kib(1, number).to(cuda))


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Every write beyond so many bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_takes_nothing_more(tmp_path: Path, logged: list[str]) -> None:
    with ActivationCache(CacheBudget(host=KIB, disk=64 * KIB, folder=tmp_path)) as cache:
        assert cache.put(("before",), kib(value=1)), "in memory"
        assert cache.put(("on disk",), kib(value=2))
        with files_of_at_most(2 * KIB):
            assert not cache.put(("too much",), kib(4))
        assert not cache.put(("later",), kib()), "it is not tried again and again"
        assert ("too much",) not in cache
        assert cache.used == {"device": 0, "host": KIB, "disk": KIB}
        assert len(files_in(tmp_path)) == 1
        found = cache.get(("on disk",), CPU)
        assert found is not None
        assert found.equal(kib(value=2))
    (text,) = logged
    # as safetensors says it, which newer versions do in words
    assert re.search(r"takes nothing more \(.*(File too large|FileTooLarge).*\): what does not fit elsewhere", text)


def test_files_that_are_gone_are_as_if_never_put(tmp_path: Path, logged: list[str]) -> None:
    with ActivationCache(CacheBudget(host=0, disk=64 * KIB, folder=tmp_path)) as cache:
        cache.put(("a",), kib())
        cache.put(("b",), kib())
        (folder,) = tmp_path.iterdir()
        shutil.rmtree(folder)
        assert cache.get(("a",), CPU) is None
        cache.discard(("b",))
        assert not cache.put(("c",), kib())
        assert cache.used["disk"] == 0
    assert len(logged) == 1


def test_a_folder_that_is_not_there_costs_the_tier(tmp_path: Path, logged: list[str]) -> None:
    cache = ActivationCache(CacheBudget(host=0, disk=64 * KIB, folder=tmp_path / "none"))
    assert not cache.put(("a",), kib())
    assert "No such file or directory" in logged[0]
    (tmp_path / "none").mkdir()
    cache.close()
    assert cache.put(("a",), kib()), "a new beginning"
    cache.close()
