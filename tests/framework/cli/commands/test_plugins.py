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
    assert done.code == 1
    (odd,) = (plugin for plugin in done.data["plugins"] if plugin["name"] == "odd")
    assert odd["status"] == "invalid"
    assert "Did you mean 'billhook_register_estimators'?" in odd["reason"]
    assert done.data["offers"] == {}
    assert "is no hook of billhook" in run("plugins").out


REGISTER = """
    from billhook import hookimpl

    @hookimpl
    def billhook_register_{role}s(register):
        register({offer})
"""


@pytest.mark.parametrize(
    ("role", "offer", "reason"),
    [
        ("estimator", "'x', 3", "offers 3 as the estimator 'x', which is no Estimator class"),
        ("selector", "'Mine_1', 3", "which is no Selector class"),
        ("recipe", "'x'", "offers 'x' as a recipe, which is no Recipe instance"),
        ("adapter", "'x'", "offers 'x' as an adapter, which is no Adapter instance"),
    ],
)
def test_a_wrong_registration_is_listed_as_invalid_with_the_way_out(
    run: Run, installed: Installer, role: str, offer: str, reason: str
) -> None:
    installed("stranger", odd=REGISTER.format(role=role, offer=offer))
    done = run("plugins", "--json")
    (odd,) = (plugin for plugin in done.data["plugins"] if plugin["name"] == "odd")
    assert (done.code, odd["status"]) == (1, "invalid")
    assert reason in odd["reason"]
    assert odd["reason"].endswith(f"Mend it, or block it with {DISABLE_VARIABLE}=stranger:odd.")


def test_every_wrong_registration_is_listed_at_once(run: Run, installed: Installer) -> None:
    installed(
        "stranger",
        one=REGISTER.format(role="selector", offer="'x', 3"),
        two=REGISTER.format(role="recipe", offer="'x'"),
    )
    plugins = run("plugins", "--json").data["plugins"]
    assert [p["status"] for p in plugins if p["distribution"] == "stranger"] == ["invalid", "invalid"]


def test_a_name_that_two_offer_is_listed_qualified(run: Run, installed: Installer) -> None:
    installed("stranger", mine=offering("ridge"))
    offered = run("plugins", "--json").data["offers"]["estimator"]
    assert {"billhook:ridge", "stranger:ridge", "cosine"} <= set(offered)
    assert "ridge" not in offered


def test_a_file_is_listed_as_a_plugin(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "my_idea.py"
    file.write_text(offering("mine"))
    done = run("plugins", "--plugin", file, "--json").data
    (mine,) = (plugin for plugin in done["plugins"] if plugin["distribution"] == "my_idea.py")
    assert (mine["name"], mine["status"], mine["hooks"]) == (str(file), "loaded", ["billhook_register_estimators"])
    assert mine["version"].startswith("sha256-")
    assert "my_idea.py:mine" in done["offers"]["estimator"]
    assert "my_idea.py:mine" not in run("plugins", "--json").out


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
