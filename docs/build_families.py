"""Writes docs/families.md anew from runs of tiny models of every family: ``python -m docs.build_families``.

What a cell says was done: the cut was made, the model was saved, read again by the Auto class and compared, with its
logits and with what it generates without cache, with a dynamic and with a static one, one row padded on the left.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import attrs
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from billhook import Adapter, Cut, DropBranch, DropLayers, Merger, default_registry
from billhook.cuts.keep_units import keeping
from billhook.errors import BillhookError, InvalidCut
from billhook.model.branch import Branch
from billhook.model.view import ModelView
from billhook.model.writer import weight_rows
from billhook.results.padding import padded
from billhook.results.settling import settle
from billhook.results.verification import verify_reload, verify_same
from billhook.testing import random_map, tiny_model
from billhook.testing.samples.linearisation import donor_of

PAGE = Path(__file__).with_name("families.md")

HEAD = """# Families

Which model types billhook prunes, and how what becomes of them is stored. Made by `python -m
docs.build_families` from runs of tiny models of transformers {version}: each cut was made, and the
model saved, read again and compared, with what it generates without cache, with a dynamic and with
a static one.

- `stock`: the checkpoint is the family's own, with a smaller config.
- `billhook`: layers differ, so that the checkpoint is of the type `billhook`
  ([checkpoints](checkpoints.md)); `--pad` makes a stock one of it.
- a number: refused, before any work, for the reason below the table.

*Layers*: whole layers go. *Branches*: single attentions and MLPs. *Channels*, *heads*: MLPs and
attentions get narrower, in one layer and, behind the stroke, in all layers alike. *fold*, *refit*,
*insert*: how a repair can be put in ([strategies](strategies.md#mergers)). *pad*: a stock
checkpoint of a model whose layers differ.

{count} of the {all} causal language model types of transformers {version} are served.

<!--all-model-types-->

| `model_type` | layers | branches | channels | heads | fold | refit | insert | pad |
|---|---|---|---|---|---|---|---|---|
{rows}

<!--end-->

{reasons}

## Not served

Their models are refused by name, with the way to
[add a family](adapters.md#adding-an-architecture):

{others}
"""


@attrs.frozen
class Refusal:
    """Why something cannot be done."""

    reason: str


Cell = str | Refusal


def capabilities(adapter: Adapter, model_type: str) -> dict[str, Cell]:
    """What can be done with a family, by column, each tried with a tiny model."""
    dense = ModelView(tiny_model(adapter, model_type=model_type), adapter)

    def units(branch: Branch) -> Cell:
        if reason := adapter.why_not_narrowable(dense.model.config, branch):
            return Refusal(reason)
        one, all_of = ([_narrower(dense, n, branch) for n in numbers] for numbers in ((1,), dense.numbers))
        return f"{_kept(dense, one)} / {_kept(dense, all_of)}"

    mergers = {name: cast(Merger, default_registry().create("merger", f"billhook:{name}")) for name in MERGERS}
    mixed = [DropBranch(1, "attention"), DropBranch(2, "mlp")]
    return {
        "layers": _kept(dense, [DropLayers(1, 2)]),
        "branches": _kept(dense, mixed),
        "channels": units("mlp"),
        "heads": units("attention"),
        **{name: _or_reason(partial(_merged, dense, merger)) for name, merger in mergers.items()},
        "pad": _or_reason(partial(_padded, dense, mixed)),
    }


MERGERS = ("fold", "refit", "insert")


def _narrower(view: ModelView, number: int, branch: Branch) -> Cut:
    return keeping((number, branch), view.units(number, branch)[1:])


def _made(dense: ModelView, cuts: Sequence[Cut]) -> ModelView:
    view = dense.copy()
    for cut in cuts:
        try:
            cut.check(view)
        except InvalidCut:  # the only attention of the first layer's kind, in a model of four
            continue
        cut.remove_from(view)
    settle(view)
    return view


def _kept(dense: ModelView, cuts: Sequence[Cut]) -> str:
    view = _made(dense, cuts)
    _save(view)
    return "billhook" if view.model.config.model_type == "billhook" else "stock"


def _save(view: ModelView) -> None:
    with tempfile.TemporaryDirectory() as folder:
        view.model.save_pretrained(folder)
        verify_reload(view.model, Path(folder))


def _merged(dense: ModelView, merger: Merger) -> str:
    view, cut = dense.copy(), DropLayers(1, 2)
    merger.check(view, cut)
    inner = weight_rows(view.writer(*donor_of(view, cut))).shape[0]
    merger.merge(view, cut, random_map(inner if merger.regressor == "inner" else view.d_model, view.d_model))
    settle(view)
    _save(view)
    return "billhook" if view.model.config.model_type == "billhook" else "stock"


def _padded(dense: ModelView, cuts: Sequence[Cut]) -> str:
    view = _made(dense, cuts)
    verify_same(view.model, padded(view.model), "The padded model")
    return "stock"


def _or_reason(work: Callable[[], str]) -> Cell:
    try:
        return work()
    except BillhookError as error:
        return Refusal(str(error))


def served() -> Iterator[tuple[Adapter, str]]:
    """Adapters and model types that the installed transformers has."""
    pairs = [(kind, adapter) for adapter in default_registry().adapters() for kind in adapter.model_types]
    yield from ((adapter, kind) for kind, adapter in sorted(pairs, key=lambda pair: pair[0]) if kind in CONFIG_MAPPING)


def row(model_type: str, cells: Mapping[str, Cell], reasons: list[str]) -> str:
    """A line of the table; reasons that are not there yet are added."""
    said = []
    for cell in cells.values():
        if isinstance(cell, Refusal):
            reason = cell.reason.rstrip(".") + "."
            if reason not in reasons:
                reasons.append(reason)
            said.append(str(reasons.index(reason) + 1))
        else:
            said.append(cell)
    return f"| `{model_type}` | {' | '.join(said)} |"


def page() -> str:
    """The whole page."""
    reasons: list[str] = []
    families = list(served())
    rows = [row(kind, capabilities(adapter, kind), reasons) for adapter, kind in families]
    causal, kinds = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), {kind for _, kind in families}
    others = ", ".join(f"`{kind}`" for kind in sorted(causal - kinds))
    return HEAD.format(
        version=transformers.__version__,
        count=len(kinds & causal),
        all=len(causal),
        rows="\n".join(rows),
        reasons="\n".join(_wrapped(f"{number}. {reason}") for number, reason in enumerate(reasons, 1)),
        others=_wrapped(others),
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, subsequent_indent="   " * text[0].isdigit(), break_on_hyphens=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
