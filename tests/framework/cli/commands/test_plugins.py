"""``billhook plugins``."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.framework.cli.conftest import Installer, Run
from tests.framework.plugins.plugin_files import offering

from billhook.plugins.registry import DISABLE_VARIABLE


def test_everything_built_in_is_listed_as_loaded(run: Run) -> None:
    plugins = run("plugins", "--json").data["plugins"]
    built_in = {plugin["name"]: plugin for plugin in plugins if plugin["distribution"] == "billhook"}
    assert {"least-squares", "window-distance", "fold", "llama"} <= set(built_in)
    assert {plugin["status"] for plugin in built_in.values()} == {"loaded"}
    assert built_in["fold"]["hooks"] == ["billhook_register_mergers"]


def test_strategies_are_listed_by_role(run: Run) -> None:
    done = run("plugins", "--json")
    assert done.data["problem"] == ""
    assert {"cosine", "angular", "fixed-windows"} <= set(done.data["offers"]["selector"])
    assert {"least-squares", "ridge"} <= set(done.data["offers"]["estimator"])
    assert "llama" in done.data["offers"]["model_type"]
    table = run("plugins").out
    assert "estimators" in table
    assert "least-squares" in table


def test_a_strangers_strategy_is_listed_with_its_origin(run: Run, installed: Installer) -> None:
    installed("stranger", mine=offering("mine"))
    done = run("plugins", "--json").data
    (theirs,) = (plugin for plugin in done["plugins"] if plugin["distribution"] == "stranger")
    assert (theirs["name"], theirs["version"], theirs["status"]) == ("mine", "3.2", "loaded")
    assert "stranger:mine" in done["offers"]["estimator"]


def test_a_plugin_that_fails_on_import_is_listed_with_the_reason(run: Run, installed: Installer) -> None:
    installed("stranger", broken="import no_such_module_at_all")
    done = run("plugins")
    assert done.code == 0
    (line,) = (line for line in done.out.splitlines() if "broken" in line)
    assert "failed" in line
    assert "no_such_module_at_all" in done.out
    assert "least-squares" in done.out


def test_an_invalid_plugin_is_listed_although_nothing_can_be_looked_up(run: Run, installed: Installer) -> None:
    source = "from billhook import hookimpl\n@hookimpl\ndef billhook_register_estimatorz(register): pass\n"
    installed("stranger", odd=source)
    done = run("plugins", "--json")
    assert done.code == 0
    (odd,) = (plugin for plugin in done.data["plugins"] if plugin["name"] == "odd")
    assert odd["status"] == "invalid"
    assert "Did you mean 'billhook_register_estimators'?" in odd["reason"]
    assert done.data["offers"] == {}
    assert "is no hook of billhook" in run("plugins").out


def test_an_invalid_plugin_stops_other_commands_in_one_line(run: Run, installed: Installer, checkpoint: Path) -> None:
    installed("stranger", odd="from billhook import hookimpl\n@hookimpl\ndef billhook_nonsense(): pass\n")
    done = run("prune", checkpoint, "--recipe=replaceme-ls", "--layers", 1, "--dry-run")
    assert done.code == 1
    assert done.err.startswith("Error: ")
    assert "billhook_nonsense, which is no hook of billhook" in done.err
    assert done.err.count("\n") == 1


def test_a_blocked_plugin_is_listed_as_blocked(run: Run, installed: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLE_VARIABLE, "stranger")
    installed("stranger", mine=offering("mine"))
    (theirs,) = (p for p in run("plugins", "--json").data["plugins"] if p["distribution"] == "stranger")
    assert (theirs["status"], DISABLE_VARIABLE in theirs["reason"]) == ("blocked", True)
