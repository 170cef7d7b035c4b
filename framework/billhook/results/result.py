"""PruneResult: what a run hands back."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from billhook.tables import Table, facts_html, finite

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from billhook.plans.plan import Plan
    from billhook.plans.report import CutReport, SiteReport


MOVED: Mapping[str, str] = {"kl_held_out": "held-out calibration text", "kl_guard": "text of another kind"}
"""Metrics that say how far the result's predictions are from the dense model's, and on what."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class PruneResult:
    """The pruned model and how it came about.

    Attributes:
        model: the pruned model, in eval mode, on the device of the dense one. It shares unchanged weights with the
            dense model in memory: fine-tuning one in place changes the other, so save and reload first.
        plan: what was cut, and how to do it again.
        metrics: figures by name: parameters and layers before and after, the ratio reached, seconds by stage,
            objectives if one was given.
        reports: one for each cut: how well it was repaired. Of cuts that were repaired together at the end, each has
            the figures of its donor.
        repairs: one for each writer that was solved anew at the end, or in a closing pass, in the order of the work.
        tokenizer: the one that was given, carried along into checkpoints.
    """

    model: PreTrainedModel
    plan: Plan
    metrics: Mapping[str, float]
    reports: tuple[CutReport, ...] = ()
    repairs: tuple[SiteReport, ...] = ()
    tokenizer: PreTrainedTokenizerBase | None = None

    def save(
        self,
        path: str | Path,
        *,
        overwrite: bool = False,
        verify: bool = True,
        pad: bool = False,
        uniform: bool = False,
    ) -> Path:
        """Write the model as a transformers checkpoint (safetensors), reload it, and compare.

        A stock one where the family's own code can load it; a model whose layers differ is of the type ``billhook``.
        Plan, figures and a model card lie beside the weights. An interrupted save leaves nothing behind.

        Args:
            path: the folder to make.
            overwrite: replace a folder that is there, if it is empty or holds a checkpoint.
            verify: reload and compare logits and greedy tokens; takes the model's memory a second time.
            pad: write a stock checkpoint all the same, a larger one: what is gone is there as zeros.
            uniform: refuse a model that no stock checkpoint can hold.

        Returns:
            ``path``.

        Raises:
            OutputExists: ``path`` is there and may not be replaced; nothing is written.
            CheckpointError: the model cannot be saved as asked, or what was written does not reproduce it.
        """
        from billhook.results import checkpoint

        return checkpoint.save(self, Path(path), overwrite=overwrite, verify=verify, pad=pad, uniform=uniform)

    def table(self) -> Table:
        """A row for each cut: what went, the objective without it, how well it was repaired, and the seconds."""
        return Table([report.row() for report in self.reports])

    def to_dict(self) -> dict[str, Any]:
        """Plan, figures and reports as JSON values; None for what is not finite."""
        return {
            "plan": self.plan.to_dict(),
            "metrics": finite(self.metrics),
            "reports": [report.to_dict() for report in self.reports],
            "repairs": [report.to_dict() for report in self.repairs],
        }

    def __repr__(self) -> str:
        return f"<PruneResult: {self.plan.model.name or self.plan.model.model_type}, {self._sizes()}>"

    def __str__(self) -> str:
        lines = [str(self.plan), f"  parameters {self._sizes()}"]
        if self.reports:
            lines.append(textwrap.indent(str(self.table()), "  "))
        moved = [f"{self.metrics[name]:.3f} on {text}" for name, text in MOVED.items() if name in self.metrics]
        if moved:
            lines.append(f"  KL(dense, result) in nats per token: {', '.join(moved)}")
        return "\n".join([*lines, *(f"  seconds   {seconds:.1f}" for seconds in self._seconds())])

    def _repr_html_(self) -> str:
        facts = {**self.plan.facts(), "parameters": self._sizes()}
        for name in ("objective_before", "objective_after", *MOVED, "seconds_total"):
            if name in self.metrics:
                facts[name.replace("_", " ")] = f"{self.metrics[name]:.4g}"
        return facts_html(facts) + (self.table()._repr_html_() if self.reports else "")

    def _sizes(self) -> str:
        before, after = self.metrics["parameters_before"], self.metrics["parameters_after"]
        return f"{before:,.0f} -> {after:,.0f} (-{1 - after / before:.1%})"

    def _seconds(self) -> list[float]:
        return [self.metrics["seconds_total"]] if "seconds_total" in self.metrics else []
