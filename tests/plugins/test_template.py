"""The template is installed as a stranger's plugin would be, into an environment of its own, and used by name."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path

import attrs
import pytest

from billhook.data.text_source import default_text
from billhook.plugins.new_plugin import new_plugin
from billhook.testing import save_tiny_checkpoint

TEMPLATE = Path(__file__).parents[2] / "plugins" / "template"


@attrs.frozen
class Environment:
    """A virtual environment in which everything of the present one can be imported.

    Attributes:
        python: its interpreter.
        folder: where commands run.
    """

    python: Path
    folder: Path

    def run(self, *arguments: str | Path) -> str:
        """``python -m`` with these arguments; its stdout. Fails with its stderr unless it exits with 0."""
        done = subprocess.run(
            [self.python, "-m", *arguments],
            cwd=self.folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", "BILLHOOK_DISABLE_PLUGINS": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A fresh environment with the template installed, from a copy, as a newcomer begins."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
    at = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    name = "python.exe" if os.name == "nt" else "python"
    made = Environment(python=Path(sysconfig.get_path("scripts", "venv", at), name), folder=folder)
    # addsitedir, not a plain path: it also reads the .pth files there, which is how editable installs work
    outer = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(outer)]
    Path(sysconfig.get_path("purelib", "venv", at), "outer.pth").write_text("\n".join(lines) + "\n")
    ignored = shutil.ignore_patterns("__pycache__", ".*")
    shutil.copytree(TEMPLATE, folder / "template", ignore=ignored)
    made.run("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "./template")
    return made


def test_it_is_what_new_plugin_makes(tmp_path: Path) -> None:
    made = new_plugin("template", "estimator", tmp_path)
    texts = {file.name: file.read_text(encoding="utf-8") for file in made.iterdir()}
    ours = {file.name: file.read_text(encoding="utf-8") for file in TEMPLATE.iterdir() if file.is_file()}
    assert ours == texts, "make it anew: billhook new-plugin template --role estimator"


def test_the_plugin_is_listed_with_its_estimator(environment: Environment) -> None:
    listed = json.loads(environment.run("billhook", "plugins", "--json"))
    (template,) = (plugin for plugin in listed["plugins"] if plugin["distribution"] == "billhook-template")
    assert template["status"] == "loaded"
    assert "billhook-template:template" in json.dumps(listed)


def test_a_model_is_pruned_with_it_by_name(environment: Environment) -> None:
    model = save_tiny_checkpoint(environment.folder / "model", num_hidden_layers=4)
    text = environment.folder / "text.txt"
    text.write_text(default_text("calibration")[:2000], encoding="utf-8")
    out = environment.folder / "out"
    command = ("prune", model, "--out", out, "--recipe", "replaceme", "--layers", "1", "--estimator", "template")
    environment.run("billhook", *command, "--calibration", text, "--seqlen", "16", "--samples", "8")
    plan = json.loads((out / "billhook.json").read_text(encoding="utf-8"))["plan"]
    assert plan["estimator"] == {
        "name": "billhook-template:template",
        "options": {"factor": 0.5},
        "defaults": ["factor"],
    }
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"] == 3


def test_its_own_tests_pass_there(environment: Environment) -> None:
    report = environment.run("pytest", "-q", "-p", "no:cacheprovider", "template")
    assert "3 passed" in report


def test_its_estimator_is_short() -> None:
    lines = (TEMPLATE / "billhook_template.py").read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("@attrs"))
    assert len([line for line in lines[begin:] if line.strip()]) < 20
