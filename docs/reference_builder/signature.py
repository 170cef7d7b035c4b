"""Signatures: how a function is called, and what a class takes, as the source writes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from docs.reference_builder.prose import WIDTH
from docs.reference_builder.source import Source

MARGIN = 18
"""Columns that stand around a signature in a list: the list's own, the kind of a method, and backticks."""


def class_signature(text: Source, cls: ast.ClassDef) -> str:
    """What calling the class takes: its ``__init__``, or the fields of an attrs class."""
    bases = ", ".join(_public_bases(text, cls))
    head = f"class {cls.name}({bases})" if bases else f"class {cls.name}"
    decorators = [text.of(d) for d in cls.decorator_list]
    init = next((n for n in cls.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is not None:
        return f"{head}\n{_call(cls.name, list(_arguments(text, init.args))[1:])}"
    if any(d.startswith("attrs.") for d in decorators):
        star = ["*"] if any("kw_only=True" in d for d in decorators) else []
        fields = list(_fields(text, cls))
        return f"{head}\n{_call(cls.name, (star if fields else []) + fields)}"
    return head


def private_bases(text: Source, cls: ast.ClassDef) -> list[ast.ClassDef]:
    """The classes of the same module that it is built on and that are not public."""
    found = [text.find(text.of(base))[0] for base in cls.bases if text.of(base).startswith("_")]
    return [node for node in found if isinstance(node, ast.ClassDef)]


def _public_bases(text: Source, cls: ast.ClassDef) -> Iterator[str]:
    """Its bases, with those of a private one in its place."""
    private = {node.name: node for node in private_bases(text, cls)}
    for base in map(text.of, cls.bases):
        if base in private:
            yield from _public_bases(text, private[base])
        else:
            yield base


def signature(text: Source, node: ast.FunctionDef, *, bound: bool = False) -> str:
    """``name(arguments) -> result``, without ``self`` if ``bound``, and without what hypothesis hands in.

    An argument a line where one line would be too long.
    """
    drawn = any("composite" in text.of(d) for d in node.decorator_list)
    shown = list(_arguments(text, node.args))[1 if bound or drawn else 0 :]
    result = text.of(node.returns)
    result = f"SearchStrategy[{result}]" if drawn else result
    return _call(node.name, shown, f" -> {result}" if result else "")


def _call(name: str, arguments: list[str], result: str = "") -> str:
    line = f"{name}({', '.join(arguments)}){result}"
    if len(line) <= WIDTH - MARGIN or not arguments:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){result}"])


def _fields(text: Source, cls: ast.ClassDef) -> Iterator[str]:
    """Those of an attrs class, after those that it has from another one of its module."""
    for base in map(text.of, cls.bases):
        above = next((node for node in text.tree.body if isinstance(node, ast.ClassDef) and node.name == base), None)
        if above is not None and any(text.of(decorator).startswith("attrs.") for decorator in above.decorator_list):
            yield from _fields(text, above)
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and not text.of(node.annotation).startswith("ClassVar"):
            default = _default(text, node.value)
            yield f"{text.of(node.target)}: {text.of(node.annotation)}{f' = {default}' if default else ''}"


def _default(text: Source, value: ast.expr | None) -> str:
    """A default; of ``attrs.field`` what it says of one, a factory as the call that makes it; empty for none."""
    if not isinstance(value, ast.Call) or text.of(value.func) != "attrs.field":
        return text.of(value)
    said = {keyword.arg: text.of(keyword.value) for keyword in value.keywords}
    return f"{said['factory']}()" if "factory" in said else said.get("default", "")


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
