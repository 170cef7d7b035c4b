"""Whether the layers of a model can get narrower and stay alike, so that a stock checkpoint holds them."""

from __future__ import annotations

from billhook.cuts.keep_units import keeping
from billhook.heterogeneous.family import stock_model
from billhook.model.branch import Branch
from billhook.model.view import ModelView
from billhook.model.weights import shapes


def can_be_uniform(view: ModelView, branch: Branch) -> bool:
    """Whether the family's own class could hold layers whose ``branch`` has fewer units, all alike: a stock checkpoint.

    Tried on the last layer with a single unit. GPT-2's attention cannot, for one: a head's width is the stream's,
    divided by the number of heads.
    """
    number = view.numbers[-1]
    units = view.units(number, branch)
    if len(units) < 2:
        return True
    version = keeping((number, branch), units[:1]).changes(view)[number]
    assert version is not None  # narrowing never drops a layer
    layout = view.adapter.layout(branch)
    found = view.adapter.sizes(view.model.config, branch, 1)
    sizes = {name: found[size] for size, name in layout.sizes.items()}
    empty = stock_model(
        view.model, sizes | ({"head_dim": view.adapter.head_dim(view.model.config)} if "heads" in found else {})
    )
    if empty is None:
        return False
    # only what changed is compared: an earlier stage may have made the other branch narrower than the config says
    stock, before = shapes(view.adapter.layers(empty)[-1]), shapes(view.layer(number))
    return all(stock.get(name) == shape for name, shape in shapes(version.module).items() if shape != before[name])
