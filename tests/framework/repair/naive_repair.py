"""The repair problem of any cut, read off whole forwards by plain hooks, and its solution by a plain solver."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from billhook import Cut, ModelView, Rows, Tokens
from billhook.cuts.sites import RepairSite
from billhook.model.branch import Branch
from billhook.model.writer import weight_rows


@torch.no_grad()
def seen(view: ModelView, tokens: Tokens, number: int, branch: Branch) -> dict[str, Tensor]:
    """What enters the layer and the writer, what the branch adds, what leaves the layer: ``[rows, seq, ...]``."""
    found: dict[str, Tensor] = {}
    layer = view.layer(number)

    def entering(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found["entering"] = cast(Tensor, args[0] if args else kwargs["hidden_states"]).clone()

    def note(name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], *output: Any) -> None:
            found[name] = view.adapter.stream(output[0]).clone() if name == "leaving" else (output or args)[0].clone()

        return hook

    writer = view.writer(number, branch)
    handles = [
        layer.register_forward_pre_hook(entering, with_kwargs=True),
        layer.register_forward_hook(note("leaving")),
        writer.register_forward_pre_hook(note("inner")),
        layer.get_submodule(view.adapter.output(layer, branch)).register_forward_hook(note("written")),
    ]
    view.model(input_ids=tokens.ids, attention_mask=tokens.keep.long(), use_cache=False)
    for handle in handles:
        handle.remove()
    scale = view.adapter.scale(layer, branch)
    shape = found["entering"].shape
    found["written"] = found["written"].reshape(shape) * scale
    found["inner"] = found["inner"].reshape(*shape[:2], -1) * scale
    found["after"] = found["leaving"] if branch == "mlp" else found["entering"] + found["written"]
    return found


def target_of(dense: ModelView, tokens: Tokens, site: RepairSite) -> Tensor:
    """The dense stream at the site's target."""
    if site.between:
        return seen(dense, tokens, site.target, "attention")["after"]
    if site.target == dense.original_layer_count:
        return seen(dense, tokens, site.target - 1, "mlp")["leaving"]
    return seen(dense, tokens, site.target, "mlp")["entering"]


def naive_rows(dense: ModelView, present: ModelView, cut: Cut, tokens: Tokens, regressor: str) -> Rows:
    """x, residual and skip of ``cut``, ``[tokens, ...]``, in float64."""
    site = cut.repair_site(present)
    assert site is not None
    after = present.copy()
    cut.remove_from(after)
    found = {name: t[tokens.keep].double() for name, t in seen(after, tokens, site.layer, site.branch).items()}
    x = found["written"] if regressor == "output" else found["inner"]
    weight = weight_rows(after.writer(site.layer, site.branch)).double()
    contribution = x if regressor == "output" else x @ weight
    skip = found["after"] - contribution
    return Rows(x, target_of(dense, tokens, site)[tokens.keep].double() - skip, skip)


def naive_map(rows: Rows, ridge: float, prior: Tensor) -> Tensor:
    """Ridge regression toward ``prior`` as least squares on more rows."""
    strength = (ridge * rows.x.square().sum(0).mean()).sqrt()
    above = torch.cat([rows.x, strength * torch.eye(rows.x.shape[1], dtype=torch.float64)])
    below = torch.cat([rows.residual, strength * prior])
    solution: Tensor = torch.linalg.lstsq(above, below).solution
    return solution
