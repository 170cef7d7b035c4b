"""Checkpoints of models whose layers differ, in fresh processes: with billhook, in either order, and without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.framework.heterogeneous.uneven import IDS, cut_view, logits, settled
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from billhook import KeepChannels, KeepHeads
from billhook.heterogeneous.auto_classes import register, register_in_time
from billhook.heterogeneous.family import is_heterogeneous
from billhook.model.inserted import insert_after
from billhook.results.settling import settle
from billhook.testing import random_map, tiny_tokenizer

DIFFERENT = ("llama", "gpt2", "gemma3_text", "phi3", "inserted")
STOCK = "uniform"

LOADING = """
import json, pathlib, sys
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

torch.set_num_threads(1)
place, options = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
ids = torch.load(place / "ids.pt")


def look(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    with torch.no_grad():
        found = model.eval()(input_ids=ids, use_cache=False).logits
    return model, {
        "class": type(model).__name__,
        "module": type(model).__module__,
        "strange": sorted(str(key) for keys in info.values() if keys for key in keys),
        "equal": torch.equal(found, torch.load(place / folder.name.removesuffix("-again") / "logits.pt")),
        "generated": model.generate(ids[:, :5], max_new_tokens=4, do_sample=False).tolist(),
    }


def whole(folder):
    model, seen = look(folder)
    again = folder.with_name(folder.name + "-again")
    model.save_pretrained(again)
    seen["again"] = look(again)[1]
    seen["tokens"] = AutoTokenizer.from_pretrained(folder, **options)("hello")["input_ids"]
    config = AutoConfig.from_pretrained(folder, **options)
    seen["from config"] = type(AutoModelForCausalLM.from_config(config, **options)).__name__
    return seen


def outcome(folder):
    try:
        return whole(folder)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


print("RESULT", json.dumps({name: outcome(place / name) for name in sys.argv[3:]}))
"""
"""Loads each folder, looks whether it computes what was noted, saves it again, and loads that."""

BLOCKED = "import sys; sys.modules['billhook'] = None"
"""After this, ``import billhook`` fails as if it were not installed."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder for each of :data:`DIFFERENT` and :data:`STOCK`."""
    root = tmp_path_factory.mktemp("models")
    torch.save(IDS, root / "ids.pt")
    view = cut_view("gpt_neox")
    insert_after(view.layer(1), "mlp.dense_4h_to_h", random_map(view.d_model, bias=True))
    settle(view)
    uniform = [cut(n, (0, 1)[-size:]) for n in range(4) for cut, size in ((KeepChannels, 2), (KeepHeads, 1))]
    models = {name: settled(name) for name in DIFFERENT[:-1]}
    for name, model in {**models, "inserted": view.model, STOCK: settled("llama", *uniform)}.items():
        assert is_heterogeneous(model) == (name != STOCK)
        model.save_pretrained(root / name)
        tiny_tokenizer().save_pretrained(root / name)
        torch.save(logits(model), root / name / "logits.pt")
    return root


def in_a_fresh_process(code: str, place: Path, *names: str, **options: bool) -> dict[str, Any]:
    """What :data:`LOADING` finds after ``code``, by folder."""
    said = run(f"{code}\n{LOADING}", place, str(place), json.dumps(options), *names)
    found: dict[str, Any] = json.loads(said.rpartition("RESULT ")[2])
    return found


def run(code: str, place: Path, *arguments: str) -> str:
    """What ``code`` prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,  # transformers asks whether code may be run
        env={**os.environ, "HF_MODULES_CACHE": str(place / "modules"), "PYTHONWARNINGS": "error"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def right(seen: dict[str, Any]) -> bool:
    """Whether a folder gave the model that was saved, and again after it was saved from there."""
    assert "error" not in seen, seen
    return bool(
        seen["equal"]
        and seen["again"]["equal"]
        and not seen["strange"]
        and seen["generated"] == seen["again"]["generated"]
        and seen["tokens"] == tiny_tokenizer()("hello")["input_ids"]
        and seen["class"] == seen["again"]["class"] == seen["from config"]
    )


@pytest.mark.parametrize(
    "code",
    ["import billhook", "import transformers; import billhook", "import billhook.pruning.applying, transformers"],
)
def test_importing_billhook_is_enough_in_either_order(place: Path, code: str) -> None:
    found = in_a_fresh_process(code, place, "llama", "gpt2")
    assert {name: right(seen) for name, seen in found.items()} == {"llama": True, "gpt2": True}
    assert {seen["module"] for seen in found.values()} == {"billhook.heterogeneous.modeling_billhook"}


def test_without_billhook_the_files_beside_the_weights_are_enough(place: Path) -> None:
    found = in_a_fresh_process(BLOCKED, place, *DIFFERENT, trust_remote_code=True)
    assert {name: right(seen) for name, seen in found.items()} == dict.fromkeys(DIFFERENT, True)
    assert all(seen["module"].startswith("transformers_modules.") for seen in found.values())


def test_with_neither_loading_fails_and_a_stock_model_loads_all_the_same(place: Path) -> None:
    found = in_a_fresh_process(BLOCKED, place, *DIFFERENT, STOCK)
    for name in DIFFERENT:
        assert "contains custom code which must be executed" in found[name]["error"]
    assert right(found[STOCK])
    assert found[STOCK]["module"] == "transformers.models.llama.modeling_llama"


def test_trusting_remote_code_does_not_run_it_when_billhook_is_there(place: Path) -> None:
    found = in_a_fresh_process("import billhook", place, "llama", trust_remote_code=True)["llama"]
    assert right(found)
    assert found["module"] == "billhook.heterogeneous.modeling_billhook"


def test_a_model_that_was_read_by_other_code_than_ours_is_not_pruned(place: Path) -> None:
    code = """
import sys
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True)
import billhook
try:
    billhook.Pruner.following("replaceme-ls").prune(model, calibration="builtin", budget=billhook.Budget(layers=1))
except billhook.BillhookError as error:
    print("REFUSED", error)
"""
    said = run(code, place, str(place / "llama"))
    assert "REFUSED This model was loaded by the code beside its weights" in said
    assert "Load it again after `import billhook`" in said


def test_registering_twice_changes_nothing() -> None:
    before, finders = CONFIG_MAPPING["billhook"].__name__, list(sys.meta_path)
    register()
    register_in_time()
    assert CONFIG_MAPPING["billhook"].__name__ == before
    assert sys.meta_path == finders
