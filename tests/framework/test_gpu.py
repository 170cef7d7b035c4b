"""What only a GPU can show. Run with ``pytest -m gpu``."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from billhook import ActivationCache, Budget, CacheBudget, Calibration, Pruner, PruneResult
from billhook.testing import tiny_model, tiny_tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GENEROUS = CacheBudget()
NOTHING = CacheBudget(device=0, host=0)


def pruned(dtype: torch.dtype, device: str, cache: CacheBudget, estimator: str = "ridge") -> PruneResult:
    model = tiny_model("llama", dtype=dtype)
    nn.Module.to(model, device)
    tokens = Calibration(source=tiny_tokens(rows=16, seq=32, padding="both"))
    pruner = Pruner.following("replaceme-ls", estimator=estimator, cache=cache, tokens_per_batch=64)
    return pruner.prune(model, calibration=tokens, budget=Budget(layers=1))


@pytest.mark.parametrize("estimator", ["ridge", "least-squares", "diagonal", "orthogonal", "cosine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_gpu_and_cpu_cut_the_same_and_repair_alike(dtype: torch.dtype, estimator: str) -> None:
    ours, theirs = (pruned(dtype, device, GENEROUS, estimator) for device in ("cuda", "cpu"))
    assert ours.plan.cuts == theirs.plan.cuts
    # R² is a mean over all tokens: it moves by the rounding of single activations, 2^-8 in bfloat16
    tolerance = 1e-3 if dtype == torch.float32 else 3e-2
    assert ours.reports[0].r_squared == pytest.approx(theirs.reports[0].r_squared, abs=tolerance)


@pytest.mark.parametrize("estimator", ["least-squares", "cosine"])
def test_a_cache_that_spills_to_the_host_changes_nothing(estimator: str) -> None:
    spilling = CacheBudget(device=20_000, host=2**20)
    results = [pruned(torch.float32, "cuda", cache, estimator) for cache in (GENEROUS, spilling, NOTHING)]
    weights = [r.model.state_dict() for r in results]
    for other in weights[1:]:
        for name, value in weights[0].items():
            # the same sums in the same order; the solver's own scheduling may differ in the last bits
            torch.testing.assert_close(other[name], value, rtol=1e-5, atol=1e-6)


def test_a_full_device_tier_spills_to_pinned_memory_and_then_refuses() -> None:
    tensor = torch.arange(256, dtype=torch.float32, device="cuda")
    with ActivationCache(CacheBudget(device=1024, host=1024)) as cache:
        assert [cache.put(("kind", n), tensor + n) for n in range(3)] == [True, True, False]
        assert cache.used == {"device": 1024, "host": 1024, "disk": 0}
        back = cache.get(("kind", 1), torch.device("cuda"))
        assert back is not None
        assert torch.equal(back, tensor + 1)


def test_the_pruned_model_stays_on_the_device() -> None:
    model = pruned(torch.bfloat16, "cuda", GENEROUS).model
    assert {p.device.type for p in model.parameters()} == {"cuda"}
