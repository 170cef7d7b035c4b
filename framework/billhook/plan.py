"""Plan: what was decided, and everything needed to do it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from billhook.budget import Budget
from billhook.cut import Cut
from billhook.cut_kinds import CUT_KINDS
from billhook.errors import InvalidPlan, listing
from billhook.part_record import PartRecord
from billhook.registry import StrategySpec
from billhook.repair import Repair
from billhook.roles import explain, strict_converter
from billhook.runs import from_runs, to_runs

SCHEMA = 1
"""Version of the JSON layout. A reader refuses a newer one."""


@attrs.frozen(kw_only=True)
class ModelIdentity:
    """Which model a plan belongs to: enough to refuse a wrong one, not to fetch it."""

    model_type: str
    layer_count: int
    parameter_count: int
    name: str = ""


@attrs.frozen(kw_only=True)
class CalibrationRecord:
    """Which data a plan was made with.

    ``source`` is what :class:`billhook.Calibration` was given, if that can be written down; ``fingerprint`` is the
    SHA-256 over the token ids and mask that came out, so that another tokenizer or text is noticed. ``parts`` says
    what a blend is made of, and how the model wrote its own text; empty for a single text.
    """

    source: str
    samples: int
    seqlen: int
    seed: int
    packing: str
    chat_template: bool
    token_count: int
    fingerprint: str
    parts: tuple[PartRecord, ...] = ()

    def __str__(self) -> str:
        if not self.token_count:
            return "no data"
        return f"{self.token_count:,} tokens of {self.source} (seed {self.seed}, {self.fingerprint[:12]})"


@attrs.frozen(kw_only=True)
class Plan:
    """Ordered cuts, and the strategies, data and model behind them. Layer numbers are the original model's.

    Compares by value, prints as a few lines, goes to JSON and back without loss.
    """

    cuts: tuple[Cut, ...]
    model: ModelIdentity
    budget: Budget
    selector: StrategySpec
    estimator: StrategySpec
    merger: StrategySpec
    calibration: CalibrationRecord
    billhook: str
    objective: StrategySpec | None = None
    repair: Repair = attrs.field(factory=Repair)
    schema: int = SCHEMA

    def __str__(self) -> str:
        return "\n".join(
            (
                f"Plan for {self.model.name or self.model.model_type}: {self.model.layer_count} layers, "
                f"{self.model.parameter_count:,} parameters",
                f"  drop      {', '.join(map(str, self.cuts)) or 'nothing'} (budget: {self.budget})",
                f"  with      {self.selector} -> {self.estimator} -> {self.merger}",
                f"  on        {self.calibration}",
            )
        )

    def to_json(self) -> str:
        """The plan as JSON, indented, keys in a fixed order."""
        return json.dumps(_CONVERTER.unstructure(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that :meth:`to_json` wrote.

        Raises:
            InvalidPlan: not JSON, not a plan, or of a newer schema; says which field is wrong.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidPlan(f"This is not a plan: not even JSON ({error}).") from error
        if not isinstance(data, dict) or "cuts" not in data:
            raise InvalidPlan("This is not a plan: a JSON object with 'cuts' was expected.")
        schema = data.get("schema", SCHEMA)
        if not isinstance(schema, int):
            raise InvalidPlan(f"This plan is damaged: its schema is {schema!r}, not a number.")
        if schema > SCHEMA:
            raise InvalidPlan(f"This plan has schema {schema}; this billhook reads up to {SCHEMA}. Update it.")
        try:
            return _CONVERTER.structure(data, cls)
        except cattrs.BaseValidationError as error:
            raise InvalidPlan(f"This plan is damaged: {explain(error)}.") from error

    def save(self, path: str | Path) -> None:
        """Write the JSON to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file, or the ``billhook.json`` of a checkpoint (a folder or that file).

        Raises:
            InvalidPlan: the file is not there or not a plan.
        """
        path = Path(path)
        path = path / "billhook.json" if path.is_dir() else path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidPlan(f"No plan can be read from {path}: {error}") from error
        return cls.from_json(_plan_part(text))


def _plan_part(text: str) -> str:
    """The plan inside a checkpoint's ``billhook.json``, or the text itself."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        return text
    return json.dumps(data["plan"]) if isinstance(data, dict) and "plan" in data else text


def cut_to_data(cut: Cut) -> dict[str, Any]:
    """A cut as JSON values, with its kind; numbers of kept units as runs (see :mod:`billhook.runs`)."""
    fields = attrs.asdict(cut)  # type: ignore[arg-type] # every Cut is an attrs class
    kept = {"kept": to_runs(fields["kept"])} if "kept" in fields else {}
    return {"kind": cut.kind, **fields, **kept}


def cut_from_data(data: Mapping[str, Any]) -> Cut:
    """The inverse of :func:`cut_to_data`; kept units may be a plain list as well.

    Raises:
        InvalidPlan: an unknown kind, or fields that the kind does not have, or values that they cannot have.
    """
    if not isinstance(data, Mapping):
        raise InvalidPlan(f"A cut is an object with a 'kind'; got {data!r}.")
    fields = dict(data)
    kind = fields.pop("kind", None)
    if kind not in CUT_KINDS:
        raise InvalidPlan(f"No cut is of kind {kind!r}. Known: {listing(CUT_KINDS)}.")
    try:
        if isinstance(fields.get("kept"), str):
            fields["kept"] = from_runs(fields["kept"])
        return _FIELDS.structure(fields, CUT_KINDS[kind])
    except cattrs.BaseValidationError as error:
        raise InvalidPlan(f"A cut of kind {kind!r} is wrong: {explain(error)}.") from error


_FIELDS = strict_converter()


def _converter() -> cattrs.Converter:
    converter = strict_converter()
    converter.register_unstructure_hook_func(lambda cls: isinstance(cls, type) and issubclass(cls, Cut), cut_to_data)
    converter.register_structure_hook_func(
        lambda cls: isinstance(cls, type) and issubclass(cls, Cut), lambda data, _: cut_from_data(data)
    )
    converter.register_structure_hook(
        StrategySpec, make_dict_structure_fn(StrategySpec, converter, options=override(struct_hook=lambda v, _: v))
    )
    converter.register_structure_hook(
        PartRecord, make_dict_structure_fn(PartRecord, converter, options=override(struct_hook=lambda v, _: v))
    )
    converter.register_unstructure_hook(StrategySpec, lambda spec: {"name": spec.name, "options": dict(spec.options)})
    return converter


_CONVERTER = _converter()
