"""The README.md beside the weights: what was done to the model, for people and for the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path

from billhook.report import CutReport
from billhook.result import PruneResult

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def model_card(result: PruneResult) -> str:
    """Front matter and a page, as Markdown."""
    metrics, plan = result.metrics, result.plan
    name = plan.model.name or plan.model.model_type
    lines = [
        *_front_matter(name),
        f"# {name}, pruned",
        "",
        f"Made with billhook {plan.billhook}, without training: {metrics['layers_before']:.0f} layers became "
        f"{metrics['layers_after']:.0f}, {metrics['parameters_before']:,.0f} parameters became "
        f"{metrics['parameters_after']:,.0f} ({metrics['ratio']:.1%} fewer).",
        "",
        "| cut | repaired in layer | R² | cosine before | cosine after |",
        "|---|---|---|---|---|",
        *map(_row, result.reports),
        "",
        "An ordinary transformers checkpoint; billhook is not needed to load it. Layer numbers above are the original",
        "model's, spans half-open. `billhook.json` holds the whole plan: `billhook apply` does it again.",
        "",
        "```",
        str(plan),
        "```",
        "",
    ]
    return "\n".join(lines)


def _front_matter(name: str) -> list[str]:
    base = [f"base_model: {json.dumps(name)}"] if _HUB_NAME.fullmatch(name) and not Path(name).exists() else []
    return ["---", "library_name: transformers", *base, "tags:", "- pruned", "- billhook", "---", ""]


def _row(report: CutReport) -> str:
    if report.donor is None:
        return f"| {report.cut} | not repaired | | | |"
    return (
        f"| {report.cut} | {report.donor} | {report.r_squared:.3f} | {report.cosine_before:.4f} | "
        f"{report.cosine_after:.4f} |"
    )
