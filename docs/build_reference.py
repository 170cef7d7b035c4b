"""Writes docs/reference.md from the docstrings and signatures in the source: ``python docs/build_reference.py``.

With ``--check`` it writes nothing, and exits with 1 if the page is out of date. Works on the source text, so that the
page is the same whatever versions are installed.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import billhook
import billhook.testing
from billhook.plugins.registry import default_registry
from billhook.roles.role import ROLES

PAGE = Path(__file__).with_name("reference.md")

HANDED_OUT = (
    ("billhook.cuts.cut", ("RepairSite", "Branch")),
    ("billhook.data.tokens", ("TokenBatch",)),
    ("billhook.activations.flow", ("Flow", "Walk")),
    ("billhook.activations.runner", ("Runner", "OpenBatch", "Written")),
    ("billhook.evaluation.perplexity", ("Evaluation",)),
    ("billhook.evaluation.task_accuracy", ("PairedDifference",)),
    ("billhook.evaluation.task", ("Task", "Question", "read_task")),
    ("billhook.plans.plan", ("ModelIdentity", "CalibrationRecord")),
    ("billhook.data.record", ("PartRecord",)),
    ("billhook.plugins.registry", ("StrategySpec", "PluginInfo")),
)
"""What the public names take and return, without being imported from ``billhook`` itself."""

FOR_MERGERS = ("is_linear", "weight_rows", "bias_of", "replace_weight")

INTRODUCTION = """# API reference

Made from the docstrings by `python docs/build_reference.py`; do not edit. Shapes of tensors are in brackets. Layer
numbers are those of the original model, spans are half-open. Hooks have [a page of their own](hooks.md); the built-in
strategies are explained [here](strategies.md).

- [The package `billhook`](#the-package-billhook)
- [What it hands out](#what-it-hands-out)
- [Strategies](#strategies)
- [For mergers: `billhook.model.writer`](#for-mergers-billhookwriter)
- [Checkpoints: `billhook.results.checkpoint`](#checkpoints-billhookcheckpoint)
- [Errors: `billhook.errors`](#errors-billhookerrors)
- [The test kit: `billhook.testing`](#the-test-kit-billhooktesting)
"""

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


def build() -> str:
    """The whole page."""
    parts = [INTRODUCTION, "## The package `billhook`", *_public("billhook", billhook._HOME), "## What it hands out"]
    parts += [entry(module, name) for module, names in HANDED_OUT for name in names]
    parts += ["## Strategies", *_strategies(), "## For mergers: `billhook.model.writer`"]
    parts += [entry("billhook.model.writer", name) for name in FOR_MERGERS]
    parts += ["## Checkpoints: `billhook.results.checkpoint`", entry("billhook.results.checkpoint", "save")]
    parts += ["## Errors: `billhook.errors`", *_errors(), "## The test kit: `billhook.testing`"]
    parts += [_prose(ast.get_docstring(source("billhook.testing").tree) or "")]
    parts += _public("billhook.testing", billhook.testing._HOME)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _public(package: str, home: dict[str, str]) -> Iterator[str]:
    return (entry(f"{package}.{module}", name) for name, module in sorted(home.items(), key=lambda i: i[0].lower()))


def _errors() -> Iterator[str]:
    names = [node.name for node in source("billhook.errors").tree.body if isinstance(node, ast.ClassDef)]
    return (entry("billhook.errors", name) for name in names)


def _strategies() -> Iterator[str]:
    """One entry a class; the line below the heading says by which names it can be asked for."""
    for role in ROLES:
        classes: dict[type[Any], list[str]] = {}
        for name in default_registry().qualified_names(role):
            distribution, _, short = name.partition(":")
            if distribution == "billhook":
                factory = default_registry()._offers[role][short][distribution]
                made = factory.func if isinstance(factory, functools.partial) else factory
                classes.setdefault(cast("type[Any]", made), []).append(f"`{short}`")
        for cls, names in sorted(classes.items(), key=lambda item: item[0].__name__):
            yield entry(cls.__module__, cls.__name__, f"The {role} {', '.join(names)}.")


class Source:
    """A module's text and syntax tree."""

    def __init__(self, module: str) -> None:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        self.text = Path(spec.origin).read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)

    def of(self, node: ast.AST | None) -> str:
        """The text of a node, on one line."""
        return "" if node is None else " ".join((ast.get_source_segment(self.text, node) or "").split())

    def find(self, name: str) -> tuple[Definition, str]:
        """The definition of a name at the top level, and the docstring: its own, or the string after it."""
        for node, following in zip(self.tree.body, [*self.tree.body[1:], None], strict=True):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
                return node, ast.get_docstring(node) or ""
            if isinstance(node, ast.Assign | ast.AnnAssign) and name in map(self.of, _targets(node)):
                return node, _string(following)
        raise LookupError(f"{name} is not defined where it is said to live.")


source = functools.cache(Source)


def entry(module: str, name: str, remark: str = "") -> str:
    """Heading, signature, docstring and members of one name."""
    text = source(module)
    node, docstring = text.find(name)
    lines = [f"### {name}", f"In `{module}`. {remark}".strip(), _prose(docstring)]
    if isinstance(node, ast.FunctionDef):
        lines.insert(2, _code(_signature(text, node)))
    elif isinstance(node, ast.ClassDef):
        lines.insert(2, _code(_class_signature(text, node)))
        members = list(_members(text, node))
        lines += ["*Members:*", *members] if members else []
    else:
        lines.insert(2, _code(text.of(node)))
    return "\n\n".join(line for line in lines if line)


def _members(text: Source, cls: ast.ClassDef) -> Iterator[str]:
    for node, following in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and _string(following):
            yield f"- `{text.of(node)}`: {_inline(_string(following))}"
        if isinstance(node, ast.FunctionDef) and _is_shown(node):
            decorators = [text.of(d) for d in node.decorator_list]
            kind = next((f"*{d}* " for d in ("property", "classmethod") if d in decorators), "")
            shown = node.name if kind == "*property* " else _signature(text, node, bound=True)
            yield f"- {kind}`{shown}`\n\n" + _indented(_prose(ast.get_docstring(node) or ""))


def _is_shown(node: ast.FunctionDef) -> bool:
    public = not node.name.startswith("_") or node.name in ("__call__", "__getitem__", "__iter__", "__add__")
    return public and ast.get_docstring(node) is not None


def _class_signature(text: Source, cls: ast.ClassDef) -> str:
    """What calling the class takes: its ``__init__``, or the fields of an attrs class."""
    bases = ", ".join(text.of(base) for base in cls.bases)
    head = f"class {cls.name}({bases})" if bases else f"class {cls.name}"
    decorators = [text.of(d) for d in cls.decorator_list]
    init = next((n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        shown = _signature(text, init, bound=True)
        return f"{head}\n{shown.replace('__init__', cls.name).removesuffix(' -> None')}"
    if any(d.startswith("attrs.") for d in decorators):
        star = ["*"] if any("kw_only=True" in d for d in decorators) else []
        fields = list(_fields(text, cls))
        return f"{head}\n{cls.name}({', '.join((star if fields else []) + fields)})"
    return head


def _fields(text: Source, cls: ast.ClassDef) -> Iterator[str]:
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and not text.of(node.annotation).startswith("ClassVar"):
            default = f" = {_default(text, node.value)}" if node.value is not None else ""
            yield f"{text.of(node.target)}: {text.of(node.annotation)}{default}"


def _default(text: Source, value: ast.expr) -> str:
    """A default; of ``attrs.field(factory=f)`` the call that makes it."""
    factory = re.match(r"attrs\.field\(factory=(\w+)", text.of(value))
    return f"{factory[1]}()" if factory else text.of(value)


def _signature(text: Source, node: ast.FunctionDef, *, bound: bool = False) -> str:
    """``name(arguments) -> result``, without ``self`` if ``bound``, and without what hypothesis hands in."""
    drawn = any("composite" in text.of(d) for d in node.decorator_list)
    shown = list(_arguments(text, node.args))[1 if bound or drawn else 0 :]
    result = f" -> {text.of(node.returns)}" if node.returns is not None else ""
    return f"{node.name}({', '.join(shown)}){f' -> SearchStrategy[{result[4:]}]' if drawn else result}"


def _arguments(text: Source, args: ast.arguments) -> Iterator[str]:
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    for argument, default in zip(positional, defaults, strict=True):
        yield text.of(argument) + (f" = {text.of(default)}" if default is not None else "")
    if args.vararg is not None:
        yield f"*{text.of(args.vararg)}"
    elif args.kwonlyargs:
        yield "*"
    for argument, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield text.of(argument) + (f" = {text.of(default)}" if default is not None else "")
    if args.kwarg is not None:
        yield f"**{text.of(args.kwarg)}"


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _string(node: ast.AST | None) -> str:
    """The string that a statement consists of, or nothing."""
    value = node.value if isinstance(node, ast.Expr) else None
    return inspect.cleandoc(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _prose(docstring: str) -> str:
    """A docstring as Markdown: sections become lists, ``::`` and its indented block stay code."""
    lines: list[str] = []
    in_section = False
    for line in docstring.splitlines():
        if re.fullmatch(r"(Args|Attributes|Raises|Returns):", line):
            in_section = True
            lines += [f"*{line}*", ""]
        elif in_section and line.startswith("    "):
            lines.append(_item(line[4:]))
        else:
            in_section = in_section and not line
            lines.append(line.removesuffix(":") if line.endswith("::") else line)
    return _inline("\n".join(lines).strip())


def _item(line: str) -> str:
    """``name: text`` of a section as a list item; a line that goes on stays one."""
    named = re.match(r"((?:\w+(?:, )?)+): ", line)
    return f"- `{named[1]}`: {line[named.end() :]}" if named else line


def _inline(text: str) -> str:
    """reStructuredText's inline marks as Markdown's."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" if line else "" for line in text.splitlines())


def _code(text: str) -> str:
    return f"```text\n{text}\n```"


def out_of_date() -> str:
    """What to do about it, or nothing if the page is up to date."""
    same = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == build()
    return "" if same else "docs/reference.md is out of date; run: python docs/build_reference.py"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(out_of_date() or 0)
    PAGE.write_text(build(), encoding="utf-8")
