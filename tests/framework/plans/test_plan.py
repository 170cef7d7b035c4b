"""Plan: a value that goes to JSON and back, and a reader that says what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from tests.strategies import plans

from billhook import Budget, DropLayers, Plan
from billhook.data.record import CalibrationRecord
from billhook.errors import CheckpointError, InvalidPlan, OutputExists
from billhook.plans.plan import SCHEMA, ModelIdentity
from billhook.plans.strategy_spec import StrategySpec

PLAN = Plan(
    cuts=(DropLayers(3, 5), DropLayers(7, 8)),
    model=ModelIdentity(model_type="llama", layer_count=12, parameter_count=1234567, name="someone/some-model"),
    budget=Budget(layers=3),
    selector=StrategySpec(name="billhook:window-distance", options={"windows": 2}),
    estimator=StrategySpec(name="billhook:least-squares"),
    merger=StrategySpec(name="billhook:fold"),
    calibration=CalibrationRecord(
        source="builtin",
        samples=16,
        seqlen=32,
        seed=7,
        packing="pack",
        chat_template=False,
        token_count=512,
        fingerprint="0123456789abcdef" * 4,
    ),
    billhook="0.1.0",
)


def changed(**fields: Any) -> str:
    """The JSON of :data:`PLAN` with some fields replaced."""
    return json.dumps({**json.loads(PLAN.to_json()), **fields})


@given(plan=plans())
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


@given(plan=plans())
def test_the_json_of_a_read_plan_is_the_same_text(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()).to_json() == plan.to_json()


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Plan)])
def test_every_field_counts_in_comparisons(field: str) -> None:
    change: dict[str, Any] = {field: 3 if field == "tokens_per_batch" else "something else"}
    assert attrs.evolve(PLAN, **change) != PLAN


def test_a_plan_prints_what_goes_with_what_and_on_which_data() -> None:
    assert str(PLAN).splitlines() == [
        "Plan for someone/some-model: 12 layers, 1,234,567 parameters",
        "  drop      layers 3:5, layers 7:8 (budget: 3 layers)",
        "  with      window-distance(windows=2) -> least-squares -> fold",
        "  on        512 tokens of builtin (seed 7, 0123456789ab)",
    ]


def test_a_plan_without_cuts_or_model_name_prints_too() -> None:
    plan = attrs.evolve(PLAN, cuts=(), model=attrs.evolve(PLAN.model, name=""))
    assert "Plan for llama" in str(plan)
    assert "drop      nothing" in str(plan)


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidPlan, match="not even JSON"):
        Plan.from_json("cuts: none")


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"plans": 1}'])
def test_json_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlan, match="a JSON object with 'cuts' was expected"):
        Plan.from_json(text)


def test_a_newer_schema_is_refused_before_its_fields_are_judged() -> None:
    with pytest.raises(InvalidPlan, match=f"has schema {SCHEMA + 1}; this billhook reads up to {SCHEMA}. Update it"):
        Plan.from_json(changed(schema=SCHEMA + 1, a_field_of_the_future=1))


@pytest.mark.parametrize("schema", ["2", None, 1.5, [1]])
def test_a_schema_that_is_no_number_is_refused(schema: object) -> None:
    with pytest.raises(InvalidPlan, match=r"damaged: its schema is .*, not a number"):
        Plan.from_json(changed(schema=schema))


CUT = {"kind": "drop-layers", "start": 3, "stop": 5}
KEEP = {"kind": "keep-channels", "layer": 3}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"surprise": 1}, r"extra fields found \(surprise\)"),
        ({"budget": None}, r"expected Budget @ \$\.budget"),
        ({"budget": {"layers": 1, "bytes": 2}}, r"got layers and bytes @ \$\.budget"),
        ({"budget": {"layers": 2.7}}, r"\$\.budget\.layers"),
        ({"model": {"model_type": "llama", "layer_count": "many", "parameter_count": 1}}, r"\$\.model\.layer_count"),
        ({"model": {"model_type": "llama"}}, r"required field missing @ \$\.model\.layer_count"),
        ({"estimator": "ridge"}, r"an object with fields was expected @ \$\.estimator"),
        ({"estimator": {"name": "ridge", "options": [1]}}, r"\$\.estimator"),
        ({"calibration": {**json.loads(PLAN.to_json())["calibration"], "chat_template": "no"}}, r"\$\.calibration"),
        ({"cuts": 5}, r"\$\.cuts"),
        ({"cuts": [5]}, r"A cut is an object with a 'kind'; got 5 @ \$\.cuts\[0\]"),
        (
            {"cuts": [CUT, {**CUT, "kind": "saw"}]},
            r"No cut is of kind 'saw'. Known: .*drop-branch.* If a plugin brings it, import that first @ \$\.cuts\[1\]",
        ),
        ({"cuts": [{**CUT, "start": 5}]}, r"needs 0 <= start < stop; got start=5, stop=5 @ \$\.cuts\[0\]"),
        ({"cuts": [{**CUT, "start": 3.5}]}, r"kind 'drop-layers' is wrong: invalid value, expected int @ \$\.start"),
        ({"cuts": [{**CUT, "depth": 1}]}, r"extra fields found \(depth\)"),
        (
            {"cuts": [CUT, KEEP | {"kept": "0:5 7-9"}]},
            r"'7-9' is no run of numbers: write 7, or 9:12 .* @ \$\.cuts\[1\]",
        ),
        ({"cuts": [KEEP | {"kept": "3 1"}]}, r"The 'kept' of KeepChannels must be .* ascending, each once"),
        ({"cuts": [KEEP | {"kept": ""}]}, r"KeepChannels must keep at least one. To drop the whole branch"),
        ({"cuts": [KEEP | {"kept": 7}]}, r"kind 'keep-channels' is wrong: .* @ \$\.kept"),
        ({"cuts": [KEEP | {"kept": [1.5]}]}, r"kind 'keep-channels' is wrong: .* @ \$\.kept\[0\]"),
        ({"cuts": [{"kind": "drop-branch", "layer": 1, "branch": "norm"}]}, r"kind 'drop-branch' is wrong: .*branch"),
    ],
)
def test_a_damaged_plan_is_refused_with_the_place_and_the_rule(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidPlan, match=f"This plan is damaged: .*{message}"):
        Plan.from_json(changed(**fields))


@pytest.mark.parametrize("field", ["cuts", "model", "budget", "selector", "estimator", "merger", "calibration"])
def test_a_missing_field_is_named(field: str) -> None:
    data = json.loads(PLAN.to_json())
    del data[field]
    with pytest.raises(InvalidPlan, match=field):
        Plan.from_json(json.dumps(data))


def test_a_plan_is_saved_to_a_file_and_loaded_from_it(tmp_path: Path) -> None:
    PLAN.save(tmp_path / "plan.json")
    assert Plan.load(tmp_path / "plan.json") == PLAN


def test_a_plan_replaces_a_plan_if_it_may_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    record = json.dumps({"plan": json.loads(PLAN.to_json())})
    path.write_text(record)
    for overwrite in (False, True):
        with pytest.raises(OutputExists, match=r"exists\. Choose another|is no plan of billhook's"):
            PLAN.save(path, overwrite=overwrite)
    assert path.read_text() == record
    path.write_text(attrs.evolve(PLAN, tokens_per_batch=7).to_json())
    with pytest.raises(OutputExists, match="exists"):
        PLAN.save(path)
    PLAN.save(path, overwrite=True)
    assert Plan.load(path) == PLAN
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def test_a_plan_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"The plan .* cannot be written: No such file or directory\. Choose ano"):
        PLAN.save(tmp_path / "none" / "plan.json")


@pytest.mark.parametrize("given", [".", "billhook.json"])
def test_a_plan_is_loaded_from_a_checkpoint_by_folder_or_file(tmp_path: Path, given: str) -> None:
    beside = {"plan": json.loads(PLAN.to_json()), "metrics": {"ratio": 0.5}}
    (tmp_path / "billhook.json").write_text(json.dumps(beside))
    assert Plan.load(tmp_path / given) == PLAN


@pytest.mark.parametrize("given", [".", "nothing.json"])
def test_a_plan_that_is_not_there_is_an_error_that_names_the_file(tmp_path: Path, given: str) -> None:
    with pytest.raises(InvalidPlan, match=r"No plan can be read from .*\.json"):
        Plan.load(tmp_path / given)


def test_a_binary_file_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidPlan, match="No plan can be read"):
        Plan.load(tmp_path / "plan.json")


@pytest.mark.parametrize("options", [None, [["temperature", 1]], "x", 3])
def test_the_options_of_a_source_are_an_object_too(options: Any) -> None:
    part = {"source": "self", "weight": 1, "rows": 4, "options": options}
    data = {**json.loads(PLAN.to_json())["calibration"], "parts": [part]}
    with pytest.raises(InvalidPlan, match="The options of a source are an object of values by name; got"):
        Plan.from_json(changed(calibration=data))
