"""The README.md beside the weights: what was done to the model, for people and for the hub."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel

from billhook.foreign_text import fenced, markdown
from billhook.heterogeneous.family import is_heterogeneous
from billhook.plans.report import CutReport
from billhook.results.outcome import Outcome

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

_COLUMNS: Sequence[tuple[str, Callable[[CutReport], bool], Callable[[CutReport], str]]] = (
    ("repaired in layer", lambda r: r.donor is not None, lambda r: str(r.donor)),
    ("R²", lambda r: r.donor is not None, lambda r: f"{r.r_squared:.3f}"),
    ("cosine before", lambda r: r.donor is not None, lambda r: f"{r.cosine_before:.4f}"),
    ("cosine after", lambda r: r.donor is not None, lambda r: f"{r.cosine_after:.4f}"),
    ("objective", lambda r: math.isfinite(r.score), lambda r: f"{r.score:.4f}"),
)
"""Head of a column, whether a report has something to say in it, and what."""

_STOCK = "An ordinary transformers checkpoint; billhook is not needed to load it."

_PADDED = f"""{_STOCK} Its layers are equally wide because
what is gone was filled up with zeros, so the file is larger than the count above says."""

_BILLHOOK = """The layers differ from one another, so the model is of the type `billhook`. With billhook installed:

```
import billhook
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained(folder)
```

Without it, `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)` runs the two small files
`configuration_billhook.py` and `modeling_billhook.py` that lie beside the weights."""


def model_card(result: Outcome, saved: PreTrainedModel) -> str:
    """Front matter and a page, as Markdown; ``saved`` is the model as it was written, padded perhaps."""
    metrics, plan = result.metrics, result.plan
    name = plan.model.name or plan.model.model_type
    lines = [
        *_front_matter(name),
        f"# {markdown(name)}, pruned",
        "",
        f"Made with billhook {markdown(plan.billhook)}, without training: {metrics['layers_before']:.0f} layers became "
        f"{metrics['layers_after']:.0f}, {metrics['parameters_before']:,.0f} parameters became "
        f"{metrics['parameters_after']:,.0f} ({metrics['ratio']:.1%} fewer).",
        "",
        "## Use",
        "",
        _BILLHOOK if is_heterogeneous(saved) else _STOCK if saved is result.model else _PADDED,
        "",
        "## Cuts",
        "",
        *_table(result.reports),
        "Layer numbers are the original model's, spans half-open. `billhook.json` holds the whole plan:",
        "`billhook apply` does it again.",
        "",
        *fenced(str(plan)),
        "",
    ]
    return "\n".join(lines)


def _front_matter(name: str) -> list[str]:
    base = [f"base_model: {json.dumps(name)}"] if _HUB_NAME.fullmatch(name) and not Path(name).exists() else []
    return ["---", "library_name: transformers", *base, "tags:", "- pruned", "- billhook", "---", ""]


def _table(reports: Sequence[CutReport]) -> list[str]:
    """One row a cut, with the columns that have entries; none at all where the plan says as much."""
    columns = [column for column in _COLUMNS if any(column[1](report) for report in reports)]
    if not columns:
        return []
    heads = ["cut", *(head for head, _, _ in columns)]
    rows = [
        [markdown(str(report.cut)), *(text(report) if has(report) else "" for _, has, text in columns)]
        for report in reports
    ]
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)] + [""]
