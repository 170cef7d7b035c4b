"""Templates: each is a plugin that loads, and whose own test passes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from billhook import default_registry
from billhook.errors import InvalidConfig, OutputExists
from billhook.plugins.new_plugin import TEMPLATES, new_plugin


@pytest.mark.parametrize("role", TEMPLATES)
def test_the_module_of_a_template_is_a_plugin(role: str, tmp_path: Path) -> None:
    folder = new_plugin("my-idea", role, tmp_path)
    assert folder == tmp_path / "billhook-my-idea"
    registry = default_registry().with_files([folder / "billhook_my_idea.py"])
    assert registry.check() == []
    assert registry.plugins[-1].hooks
    assert not any(re.search("@[A-Z]+@", path.read_text()) for path in folder.iterdir())


def own_test(role: str, folder: Path) -> None:
    made = new_plugin("my-idea", role, folder)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", f"--rootdir={made}"]
    done = subprocess.run(
        [*command, str(made)], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_test_of_a_template_passes(tmp_path: Path) -> None:
    own_test("hook", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("role", TEMPLATES)
def test_the_test_of_every_template_passes(role: str, tmp_path: Path) -> None:
    own_test(role, tmp_path)


def test_wrong_names_and_roles_are_refused_and_nothing_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="A plugin's name is lower-case words joined by '-'; got 'My_Idea'"):
        new_plugin("My_Idea", "hook", tmp_path)
    with pytest.raises(InvalidConfig, match=r"no template for the role 'selektor'\. Did you mean 'selector'\?"):
        new_plugin("my-idea", "selektor", tmp_path)
    assert list(tmp_path.iterdir()) == []
    new_plugin("my-idea", "hook", tmp_path)
    with pytest.raises(OutputExists, match="billhook-my-idea is there already"):
        new_plugin("my-idea", "recipe", tmp_path)
