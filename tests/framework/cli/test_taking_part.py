"""Files and classes that take part in one command: recorded by a name that another command can resolve."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from tests.framework.cli.conftest import Installer, Run

IDEA = dedent("""
    import attrs
    from billhook import DropLayers, Estimator, LinearMap, Selector, hookimpl

    @attrs.frozen(kw_only=True)
    class Last(Selector):
        keep: int = 1

        def select(self, state, budget):
            stop = len(state.dense.numbers) - self.keep
            yield DropLayers(stop - budget.layer_count(state.dense), stop)

    @attrs.frozen(kw_only=True)
    class Part(Estimator):
        share: float = 0.5

        def estimate(self, regression):
            return LinearMap(self.share * regression.prior)
""")

HOOKS = dedent("""
    @hookimpl
    def billhook_register_selectors(register):
        register("last", Last)

    @hookimpl
    def billhook_register_estimators(register):
        register("part", Part)
""")

NO_REPAIR = ("--estimator", "identity")


@pytest.fixture
def idea(tmp_path: Path) -> Path:
    file = tmp_path / "my_idea.py"
    file.write_text(IDEA + HOOKS)
    return file


def spec(folder: Path, role: str) -> dict[str, object]:
    found = json.loads((folder / "billhook.json").read_text())["plan"][role]
    assert isinstance(found, dict)
    return found


def prune(run: Run, checkpoint: Path, data: tuple[str, ...], out: Path, *options: object) -> None:
    done = run(
        "prune", checkpoint, "--out", out, "--recipe=replaceme-ls", "--layers", 1, *data, "--no-verify", *options
    )
    assert done.code == 0, done.err


def test_a_file_brings_strategies_and_the_plan_names_them_by_it(
    run: Run, checkpoint: Path, data: tuple[str, ...], idea: Path, tmp_path: Path
) -> None:
    chosen = ("--plugin", idea, "--selector", "last", "--estimator", "part", "--set", "estimator.share=0.25")
    prune(run, checkpoint, data, tmp_path / "out", *chosen)
    assert spec(tmp_path / "out", "selector")["name"] == "my_idea.py:last"
    assert spec(tmp_path / "out", "estimator")["name"] == "my_idea.py:part"
    again = ("apply", tmp_path / "out", checkpoint, "--out", tmp_path / "again", "--no-verify")
    without = run(*again)
    assert without.code == 1
    assert "No estimator is named 'my_idea.py:part'" in without.err
    assert "give that with --plugin my_idea.py" in without.err
    assert run(*again, "--plugin", idea).code == 0
    assert spec(tmp_path / "again", "estimator") == spec(tmp_path / "out", "estimator")


@pytest.mark.parametrize("form", ["module", "file"])
def test_a_class_is_named_where_it_is_and_apply_says_what_it_needs(
    form: str,
    run: Run,
    checkpoint: Path,
    data: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "no_plugin.py").write_text(IDEA)  # without hooks: a module with classes
    source = {"module": "no_plugin", "file": str(tmp_path / "no_plugin.py")}[form]
    recorded = {"module": "no_plugin:Part", "file": "no_plugin.py:Part"}[form]
    options = ("--selector", f"{source}:Last", "--estimator", f"{source}:Part", "--set", "estimator.share=0.25")
    prune(run, checkpoint, data, tmp_path / "out", *options)
    assert spec(tmp_path / "out", "estimator")["name"] == recorded
    again = ("apply", tmp_path / "out", checkpoint, "--out", tmp_path / "again", "--no-verify")
    without = run(*again)
    assert without.code == 1
    assert f"whoever trusts it names it: --estimator {recorded}" in without.err
    assert run(*again, "--estimator", f"{source}:Part").code == 0
    assert spec(tmp_path / "again", "estimator") == spec(tmp_path / "out", "estimator")
    assert str(tmp_path) not in sys.path
    sys.modules.pop("no_plugin", None)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (None, "is not there"),
        ("1 / 0", "cannot be used: ZeroDivisionError: division by zero (line 1)"),
        ("import sys; sys.exit(3)", "cannot be used: SystemExit: 3 (line 1)"),
        ("def f(:", "cannot be used: SyntaxError: invalid syntax"),
        ("X = 1", "implements no hook, so it would never be called"),
        (
            "BILLHOOK_PLUGIN_API = 7\n" + IDEA + HOOKS,
            "written for version 7 of the plugin API, and this billhook has 1",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(
    run: Run, checkpoint: Path, tmp_path: Path, source: str | None, reason: str
) -> None:
    file = tmp_path / "broken.py"
    if source is not None:
        file.write_text(source)
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--ratio", 0.1, "--plugin", file)
    assert done.code == 1
    assert reason in done.err
    assert str(file) in done.err
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module_anywhere:Last", "The module no_such_module_anywhere cannot be imported: ModuleNotFoundError"),
        ("json:Last", "json has no 'Last'"),
        ("json:JSONDecoder", "which is no Selector class"),
        ("billhook:Selector", "The class billhook:Selector lacks the method select(state, budget)"),
        ("nobody:last", "The distribution nobody is not installed, or brings no plugins"),
    ],
)
def test_a_class_that_cannot_be_used_is_refused_in_one_line(
    run: Run, checkpoint: Path, tmp_path: Path, name: str, reason: str
) -> None:
    done = run("prune", checkpoint, "--out", tmp_path / "out", "--ratio", 0.1, "--selector", name)
    assert done.code == 1
    assert reason in done.err
    assert done.err.count("\n") == 1


def test_two_files_of_one_name_are_refused_since_plans_name_them(run: Run, idea: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    other = tmp_path / "else" / idea.name
    other.write_text(IDEA + HOOKS)
    done = run("plugins", "--plugin", idea, "--plugin", other)
    assert (done.code, "Two plugin files are called my_idea.py: rename one" in done.err) == (1, True)


def test_the_traceback_of_a_plugins_fault_ends_with_whose_it_is(
    run: Run, checkpoint: Path, data: tuple[str, ...], installed: Installer, tmp_path: Path
) -> None:
    source = """
        from billhook import hookimpl

        @hookimpl
        def billhook_after_cut(cut):
            raise KeyError("oops")
    """
    installed("stranger", odd=source)
    with pytest.raises(KeyError) as caught:
        run("prune", checkpoint, "--out", tmp_path / "out", "--recipe=shortgpt", "--layers", 1, *data)
    (note,) = caught.value.__notes__
    assert note.startswith("Raised in billhook_after_cut of the plugin stranger:odd, at the cut layers ")
    assert note.endswith("It is of the distribution stranger 3.2, not of billhook: report it to its author.")
    assert not (tmp_path / "out").exists()


def test_a_deliberate_error_of_a_plugin_is_one_line_that_names_it(
    run: Run, checkpoint: Path, data: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "strict.py"
    file.write_text(
        "from billhook import BillhookError, hookimpl\n\n@hookimpl\ndef billhook_before_prune():\n"
        "    raise BillhookError('Not on a Sunday.')\n"
    )
    done = run("prune", checkpoint, "--dry-run", "--recipe=shortgpt", "--layers", 1, *data, "--plugin", file)
    assert done.code == 1
    assert done.err.splitlines()[-1] == (
        f"Error: Not on a Sunday. (Raised in billhook_before_prune of the plugin {file}.)"
    )
