"""The examples in the documentation run, page by page, on a tiny model and few data in place of the real ones."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest
import typer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from billhook.cli import app, main
from billhook.data.text_source import default_text
from billhook.testing import save_tiny_checkpoint, tiny_tokenizer

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "plugins/README.md", *(ROOT / "docs").rglob("*.md")]
)
FEW = {"samples=64": "samples=4", "tokens=8192": "tokens=2048"}
"""Amounts of data in Python examples that are for a real model, and what is enough for a tiny one."""

FEW_OPTIONS = {
    "prune": ("--samples", "4", "--seqlen", "64"),
    "analyze": ("--samples", "4", "--seqlen", "64"),
    "evaluate": ("--tokens", "512", "--seqlen", "64"),
}
"""The same for commands; given last, they win."""


def blocks(page: Path, language: str) -> Iterator[str]:
    """The code blocks of a page, each moved down to its own lines, so that tracebacks point into the page."""
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield "\n" * text.count("\n", 0, match.start(1)) + match[1]


def commands(page: Path) -> list[list[str]]:
    """The arguments of each ``billhook`` command of a page, in order, without redirections."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("billhook ")]
    return [shlex.split(line.partition(" > ")[0], comments=True)[1:] for line in lines]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with as many layers as SmolLM2-135M has, 16 columns wide, whose tokens are frequent words."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_tiny_checkpoint(folder, num_hidden_layers=30, max_position_embeddings=2048)
    special = ["<pad>", "<bos>", "<eos>", "<unk>"]
    words = [word for word, _ in Counter(default_text("calibration").split()).most_common(60)]
    core = Tokenizer(models.WordLevel({word: n for n, word in enumerate([*special, *words])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), special, strict=True))
    template = tiny_tokenizer().chat_template
    # words, not the kit's characters: a seventh of the tokens in the built-in text, which every example reads
    PreTrainedTokenizerFast(tokenizer_object=core, chat_template=template, **names).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "python"))], ids=named)
def test_the_python_of_a_page_runs(page: Path, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType("docs_example")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # attrs and pluggy look a class's module up
    for code in blocks(page, "python"):
        for told, done in {**FEW, '"smollm2"': repr(str(stand_in))}.items():
            code = code.replace(told, done)
        exec(compile(code, page, "exec"), vars(module))
    for name, value in list(vars(module).items()):
        if name.startswith("test_"):
            for arguments in cases(value):
                value(**arguments)


def cases(test: Any) -> Iterator[dict[str, Any]]:
    """The arguments of each case of a test: those that its parametrize marks give it, in every combination."""
    marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
    for values in itertools.product(*(mark.args[1] for mark in marks)):
        yield {mark.args[0]: value for mark, value in zip(marks, values, strict=True)}


PUBLIC = {"billhook", "billhook.errors", "billhook.testing"}
"""Where names are imported from; the built-in strategies besides, which the reference says where they are."""


@pytest.mark.parametrize("page", [p for p in PAGES if any(blocks(p, "python"))], ids=named)
def test_the_python_of_a_page_imports_public_names_only(page: Path) -> None:
    nodes = [node for code in blocks(page, "python") for node in ast.walk(ast.parse(code))]
    modules = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    modules += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    assert [name for name in modules if name.startswith("billhook.") and name not in PUBLIC] == []


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=named)
def test_the_commands_of_a_page_run(
    page: Path, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("Hazel is cut in winter, when the sap is down. " * 1000, encoding="utf-8")
    chat = {"messages": [{"role": "user", "content": "Name a tool."}, {"role": "assistant", "content": "A billhook."}]}
    Path("chats.jsonl").write_text(f"{json.dumps(chat)}\n" * 8, encoding="utf-8")
    for arguments in commands(page):
        given = [str(stand_in) if word == "smollm2" else word for word in arguments]
        code = main([*given, *FEW_OPTIONS.get(given[0], ())])
        printed = capsys.readouterr()
        assert code == 0, f"billhook {shlex.join(arguments)}: {printed.err}"
        if "--dry-run" in given:
            Path("plan.json").write_text(printed.out, encoding="utf-8")


def test_every_option_of_every_command_is_documented() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    group = cast(Any, typer.main.get_command(app))  # typer exports no type for it
    options = {o for command in group.commands.values() for p in command.params for o in (*p.opts, *p.secondary_opts)}
    assert [option for option in sorted(options) if option.startswith("-") and f"`{option}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_the_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^):]*)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether the file of a relative link is there, and its heading, if one is named."""
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    if not target.exists() or not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in (re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings)
