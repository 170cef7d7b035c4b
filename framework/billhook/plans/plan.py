"""Plan: what was decided, and everything needed to do it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from transformers import PreTrainedModel

from billhook.cuts.cut import Cut
from billhook.cuts.kinds import cut_from_data, cut_to_data
from billhook.cuts.runs import count_runs
from billhook.data.record import CalibrationRecord, PartRecord
from billhook.errors import InvalidPlan
from billhook.files.whole_file import refuse_file, write_whole
from billhook.foreign_text import harmless
from billhook.heterogeneous.configuration_billhook import family_of
from billhook.json_text import BadJson, content_of, parsed
from billhook.json_values import explain, strict_converter
from billhook.model.view import ModelView
from billhook.model.weights import fingerprint
from billhook.plans.before import said_now
from billhook.plans.budget import Budget
from billhook.plans.repair import Repair
from billhook.plans.strategy_spec import StrategySpec
from billhook.tables import Table, facts_html

SCHEMA = 2
"""Version of the JSON layout. A reader refuses a newer one. In 1, strategies had only those options that were not the
defaults of the day, and no versions, dtype, weights or size of a batch were written."""

TOKENS_PER_BATCH = 4096
"""What goes through a layer at a time where nobody says otherwise."""


@attrs.frozen(kw_only=True)
class ModelIdentity:
    """Which model a plan belongs to: enough to refuse a wrong one, not to fetch it.

    ``dtype`` and ``weights`` (a SHA-256 over a sample) tell whether the same plan makes the same weights of it; they
    are empty in plans that were made before they were written down.
    """

    model_type: str
    layer_count: int
    parameter_count: int
    name: str = ""
    dtype: str = ""
    weights: str = ""

    @classmethod
    def of(cls, view: ModelView) -> ModelIdentity:
        """That of a whole model."""
        config = view.model.config
        return cls(
            model_type=family_of(config),
            layer_count=len(view.numbers),
            parameter_count=view.parameter_count,
            name=_public_name(config.name_or_path or ""),
            dtype=str(view.model.dtype).removeprefix("torch."),
            weights=fingerprint(view.model),
        )


@attrs.frozen(kw_only=True)
class Plan:
    """Ordered cuts, and the strategies, data and model behind them. Layer numbers are the original model's.

    Compares by value, prints as a few lines, goes to JSON and back without loss. Equal plans make the same weights on
    the same kind of machine: all options are in it, and what versions of which distributions worked.

    Attributes:
        cuts: in their order.
        model: whose layers they are.
        budget: what was asked for.
        selector: what chose.
        estimator: what solved for repairs.
        merger: what put them in.
        calibration: the data.
        billhook: its version.
        objective: what a search minimised, and what was measured; None for nothing.
        repair: when and how cuts were repaired.
        tokens_per_batch: how many went through a layer at a time; sums in 16 bits depend on it by their last digits.
        versions: by distribution: of all whose strategies, recipe, adapter or hooks took part, and of what computes.
        schema: of the JSON that it was read from.
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
    tokens_per_batch: int = TOKENS_PER_BATCH
    versions: Mapping[str, str] = attrs.field(factory=dict)
    schema: int = SCHEMA

    def __attrs_post_init__(self) -> None:
        if self.tokens_per_batch < 1:
            raise InvalidPlan(f"The 'tokens_per_batch' of a plan must be at least 1; got {self.tokens_per_batch}.")

    def __str__(self) -> str:
        lines = (
            f"Plan for {self.model.name or self.model.model_type}: {self.model.layer_count} layers, "
            f"{self.model.parameter_count:,} parameters",
            f"  drop      {', '.join(map(str, self.cuts)) or 'nothing'} (budget: {self.budget})",
            f"  with      {self.selector} -> {self.estimator} -> {self.merger}",
            f"  on        {self.calibration}",
        )
        return "\n".join(map(harmless, lines))

    def facts(self) -> dict[str, str]:
        """What it says, in words: the model, what goes, by which strategies, on which data."""
        return {
            "model": f"{self.model.name or self.model.model_type}, {self.model.layer_count} layers, "
            f"{self.model.parameter_count:,} parameters",
            "drop": f"{', '.join(map(str, self.cuts)) or 'nothing'} (budget: {self.budget})",
            "with": f"{self.selector} -> {self.estimator} -> {self.merger}",
            "on": str(self.calibration),
        }

    def _repr_html_(self) -> str:
        return facts_html(self.facts())

    def table(self) -> Table:
        """A row for each cut, in their order, with the fields that it has in JSON."""
        data = [{"cut": str(cut), **cut_to_data(cut)} for cut in self.cuts]
        names = list(dict.fromkeys(name for row in data for name in row))
        return Table([{name: row.get(name) for name in names} for row in data])

    def to_dict(self) -> dict[str, Any]:
        """The plan as JSON values, as :meth:`to_json` writes them."""
        return dict(json.loads(self.to_json()))

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
            data = parsed(text)
        except BadJson as error:
            raise InvalidPlan(f"This is not a plan: {error}.") from error
        return cls._from_data(data)

    @classmethod
    def _from_data(cls, data: object) -> Plan:
        if not isinstance(data, dict) or "cuts" not in data:
            raise InvalidPlan("This is not a plan: a JSON object with 'cuts' was expected.")
        schema = data.get("schema", SCHEMA)
        if not isinstance(schema, int) or isinstance(schema, bool):
            raise InvalidPlan(f"This plan is damaged: its schema is {schema!r}, not a number.")
        if schema > SCHEMA:
            raise InvalidPlan(f"This plan has schema {schema}; this billhook reads up to {SCHEMA}. Update it.")
        _refuse_many_units(data["cuts"])
        try:
            return _CONVERTER.structure(said_now(data), cls)
        except cattrs.BaseValidationError as error:
            raise InvalidPlan(f"This plan is damaged: {explain(error)}.") from error

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the JSON to a file: whole or not at all.

        Args:
            path: of the file; its folder must be there.
            overwrite: whether a plan that is there may be replaced; nothing else ever is.

        Raises:
            OutputExists: something is there.
            CheckpointError: it cannot be written; nothing is left behind.
        """
        refuse_file(Path(path), overwrite=overwrite, is_ours=_is_plan, what="plan")
        write_whole(Path(path), self.to_json().encode(), overwrite=overwrite, what="plan")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan file, or the ``billhook.json`` of a checkpoint (a folder or that file).

        Raises:
            InvalidPlan: the file is not there or not a plan.
        """
        path = Path(path)
        path = path / "billhook.json" if path.is_dir() else path
        try:
            data = parsed(content_of(path))
        except BadJson as error:
            raise InvalidPlan(f"No plan can be read from {path}: {error}.") from error
        return cls._from_data(data["plan"] if isinstance(data, dict) and "plan" in data else data)


def refuse_other_model(plan: Plan, model: PreTrainedModel) -> None:
    """Raise :class:`InvalidPlan` unless ``model`` (its weights do not matter) is the kind the plan was made for."""
    ours = (family_of(model.config), model.config.num_hidden_layers, sum(p.numel() for p in model.parameters()))
    theirs = (plan.model.model_type, plan.model.layer_count, plan.model.parameter_count)
    if ours != theirs:
        raise InvalidPlan(
            f"This plan is for a {theirs[0]} model with {theirs[1]} layers and {theirs[2]:,} parameters; this one is a "
            f"{ours[0]} with {ours[1]} layers and {ours[2]:,}. Plans use the original model's layer numbers."
        )


MOST_UNITS = 10_000_000
"""Units that all cuts of a plan keep together; the largest models known have about as many. A line of text may name
millions, and a damaged file must not fill the memory."""


def _refuse_many_units(cuts: object) -> None:
    texts = [cut.get("kept") for cut in cuts if isinstance(cut, Mapping)] if isinstance(cuts, list) else []
    if sum(count_runs(text) for text in texts if isinstance(text, str)) > MOST_UNITS:
        raise InvalidPlan(f"This plan is damaged: its cuts keep more than {MOST_UNITS:,} units together.")


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
        PartRecord, make_dict_structure_fn(PartRecord, converter, options=override(struct_hook=lambda v, _: _object(v)))
    )
    converter.register_unstructure_hook(
        CalibrationRecord,
        make_dict_unstructure_fn(CalibrationRecord, converter, begin=override(omit_if_default=True)),
    )
    converter.register_unstructure_hook(StrategySpec, StrategySpec.to_data)
    later = override(omit_if_default=True)  # what was not written before is not made up
    converter.register_unstructure_hook(
        ModelIdentity, make_dict_unstructure_fn(ModelIdentity, converter, dtype=later, weights=later)
    )
    whole = make_dict_unstructure_fn(Plan, converter, versions=later)
    old = make_dict_unstructure_fn(Plan, converter, versions=later, tokens_per_batch=override(omit=True))
    converter.register_unstructure_hook(Plan, lambda plan: (old if plan.schema < SCHEMA else whole)(plan))
    return converter


def _object(value: object) -> object:
    if not isinstance(value, Mapping):
        raise InvalidPlan(f"The options of a source are an object of values by name; got {value!r}.")
    return value


def _public_name(name: str) -> str:
    """A hub name as it is, of a local path only the last part: plans travel, and paths tell about their owner."""
    return Path(name).name if Path(name).exists() or Path(name).is_absolute() else name


_CONVERTER = _converter()


def _is_plan(path: Path) -> bool:
    try:
        Plan.from_json(content_of(path))  # and not the record of a checkpoint, which holds more
    except (BadJson, InvalidPlan):
        return False
    return True
