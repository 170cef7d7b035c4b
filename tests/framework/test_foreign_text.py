"""Text from plans, configs, plugins and file names controls neither a terminal, nor a log, nor a page."""

from __future__ import annotations

import io
import pickle
import re
import unicodedata
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loguru import logger as everybodys

import billhook.errors
from billhook import Budget, Plan, Pruner
from billhook.cli.consoles import SafeConsole
from billhook.cli.messages import Messages
from billhook.cli.output import facts, table
from billhook.cli.progress import ProgressBars
from billhook.errors import BillhookError, InvalidPlan, ModelNotFound, UnknownStrategy
from billhook.foreign_text import LONGEST, fenced, harmless, markdown, shortened
from billhook.log import logger
from billhook.plans.strategy_spec import StrategySpec
from billhook.testing import plans, tiny_model, tiny_tokens

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202egpj.exe\u2066\U000e0041\ud83d\u2028[bold]x[/bold]"
MARKUP = "](http://evil) <script>x</script> | `a` **b** ``` ```` # ![i](j) www.evil.com me@evil.com"


def controls(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in "\n\t"]


def test_what_controls_a_terminal_is_written_out() -> None:
    assert harmless("a\x1b[31mb\x9b\u202ec\ud83d\U000e0041\r\n") == r"a\x1b[31mb\x9b\u202ec\ud83d\U000e0041\r\n"
    assert harmless("a\n\tb\r", lines=True) == "a\n\tb" + r"\r"


@pytest.mark.parametrize("text", ["modèle 中文 한국어 naïve", "עברית", "👩\u200d💻", "می\u200cخواهم", "a\u00a0b → R²"])
def test_ordinary_text_of_any_script_stays(text: str) -> None:
    assert harmless(text) == text


@given(text=st.text(st.characters()))
def test_nothing_dangerous_is_left_and_doing_it_twice_changes_nothing(text: str) -> None:
    clean = harmless(text)
    assert set(controls(clean)) <= set("\u200c\u200d")
    assert "\n" not in clean
    assert harmless(clean) == clean
    clean.encode()


def test_long_text_loses_its_middle() -> None:
    text = shortened("a" * 10**6 + "the end")
    assert len(text) <= LONGEST
    assert text.endswith("the end")
    assert "998,058 characters left out" in text


@pytest.mark.parametrize("kind", [BillhookError, InvalidPlan, ModelNotFound])
def test_errors_are_harmless_and_short(kind: type[BillhookError]) -> None:
    error = kind(EVIL + "x" * 10**5)
    assert controls(str(error)) == []
    assert len(str(error)) <= LONGEST
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_name_that_nobody_offers_is_harmless_too() -> None:
    assert controls(str(UnknownStrategy("selector", EVIL, ["a"]))) == []


def test_errors_notes_and_log_lines_reach_the_terminal_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    with Messages() as messages:
        messages.error(EVIL)
        everybodys.warning("{}", EVIL)  # as a plugin would
    shown = capsys.readouterr().err
    assert controls(shown) == []
    assert shown.count("\n") == 2
    assert shown.count("[bold]x[/bold]") == 2


def test_tables_and_facts_are_harmless_with_colours_and_without() -> None:
    made = table("head", title=EVIL, left=["head"])
    made.add_row(EVIL)
    for colours in (False, True):
        file = io.StringIO()
        console = SafeConsole(width=200)
        console.file, console._force_terminal = file, colours
        console.print(made)
        console.print(facts([("label", EVIL)]), soft_wrap=True)
        own = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())  # the console's own styles
        assert controls(own) == []
        assert own.count(r"\x1b[2J") == 3


def test_a_stage_of_a_plugin_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = io.StringIO()
    console = SafeConsole(width=300)
    console.file, console._force_terminal, console.is_interactive = file, True, True
    with ProgressBars(console) as bars:
        bars.billhook_on_progress("[/red]" + EVIL, 1, 2)
        bars._progress.refresh()
    assert "\x07" not in file.getvalue()
    assert "[/red]" in file.getvalue()


def test_the_log_file_of_a_program_is_harmless(tmp_path: Path) -> None:
    sink = everybodys.add(tmp_path / "log.txt", format="{message}", encoding="utf-8")
    logger.warning("checkpoint written to {}", EVIL)
    everybodys.remove(sink)
    assert controls((tmp_path / "log.txt").read_text()) == []


def test_every_file_of_the_framework_logs_through_the_one_logger() -> None:
    package = Path(billhook.errors.__file__).parent
    using = [file.name for file in package.rglob("*.py") if "from loguru import logger" in file.read_text()]
    assert sorted(using) == ["log.py", "messages.py"]  # the second takes sinks away and adds its own


@given(plan=plans())
def test_a_printed_plan_has_four_lines_whatever_is_in_it(plan: Plan) -> None:
    assert len(str(plan).splitlines()) == 4
    assert set(controls(str(plan))) <= set("\u200c\u200d")


def test_markdown_shows_what_was_given_and_nothing_else() -> None:
    assert markdown("a|b <i> `c` [d](e) _f_ http://g @h $i$ www.j") == (
        r"a\|b &lt;i&gt; \`c\` \[d\](e) \_f\_ http\://g \@h \$i\$ www\.j"
    )
    assert markdown("someone/Some-model-1.5B") == "someone/Some-model-1.5B"


def test_a_block_of_code_ends_where_its_text_ends() -> None:
    first, text, last = fenced("a\n```\n````\n# b")
    assert first == last == "`````"
    assert text == "a\n```\n````\n# b"


def test_a_card_holds_foreign_text_as_text(tmp_path: Path) -> None:
    result = Pruner.following("replaceme-ls").prune(tiny_model(), calibration=tiny_tokens(), budget=Budget(layers=1))
    evil: dict[str, Any] = {
        "selector": StrategySpec(name=EVIL + MARKUP + "\n---\nlicense: mit\n"),
        "billhook": MARKUP,
        "model": attrs.evolve(result.plan.model, name=EVIL + MARKUP + "\n---\n"),
        "calibration": attrs.evolve(result.plan.calibration, source="\n```\n# Owned\n"),
    }
    folder = attrs.evolve(result, plan=attrs.evolve(result.plan, **evil)).save(tmp_path / "out", verify=False)
    card = (folder / "README.md").read_text()
    _, front, page = card.split("---\n", 2)
    assert "base_model" not in front
    assert controls(card) == []
    outside = re.sub(r"(?ms)^(`{3,})\n.*?^\1$", "", page)
    assert "<script>" not in outside
    assert "](http://evil)" not in outside
    assert [line for line in outside.splitlines() if line.startswith("#")][1:] == ["## Use", "## Cuts"]
