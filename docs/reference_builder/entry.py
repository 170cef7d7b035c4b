"""Entry: heading, signature, docstring and members of one public name."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import attrs
from docs.reference_builder.prose import Links, filled, indented, inline, markdown
from docs.reference_builder.signature import class_signature, private_bases, signature
from docs.reference_builder.source import Source, source, string

ROOMS = {"billhook": "framework", "billhook_strategies": "strategies"}
"""The folder that each package lies in."""

CALLED = ("__call__", "__getitem__", "__iter__", "__add__", "__len__")
"""Members that have an entry although their names begin with an underscore."""


@attrs.frozen(kw_only=True)
class Entry:
    """One public name.

    Attributes:
        name: of a class, a function or a constant.
        module: where it is defined.
        remark: a sentence below its heading.
    """

    name: str
    module: str
    remark: str = ""

    def markdown(self, links: Links) -> str:
        """All that is said of it."""
        text = source(self.module)
        node, docstring = text.find(self.name)
        members = list(_members(text, node, links)) if isinstance(node, ast.ClassDef) else []
        parts = [
            f"## {self.name}",
            filled(f"{self.remark} [Source]({self.path}).".strip()),
            _block(_shown(text, node)),
            markdown(docstring, links),
            markdown(_of_init(node), links),
            *(["*Members:*", *members] if members else []),
        ]
        return "\n\n".join(part for part in parts if part)

    @property
    def anchor(self) -> str:
        """Of its heading."""
        return self.name.lower()

    @property
    def path(self) -> str:
        """Of the file that defines it, from a page of the reference."""
        return f"../../{ROOMS[self.module.partition('.')[0]]}/{self.module.replace('.', '/')}.py"


def _of_init(node: ast.AST) -> str:
    """What the ``__init__`` of a class says of its arguments; nothing where there is none."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    inits = [member for member in body if isinstance(member, ast.FunctionDef) and member.name == "__init__"]
    return next((ast.get_docstring(init) or "" for init in inits), "")


def _shown(text: Source, node: ast.AST) -> str:
    if isinstance(node, ast.FunctionDef):
        return signature(text, node)
    if isinstance(node, ast.ClassDef):
        return class_signature(text, node)
    return text.of(node)


def _members(text: Source, cls: ast.ClassDef, links: Links) -> Iterator[str]:
    """Those of the class; what it has from a class that is not public counts as its own."""
    for base in private_bases(text, cls):
        yield from _members(text, base, links)
    for node, following in zip(cls.body, [*cls.body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and string(following):
            yield filled(f"`{text.of(node)}`: {inline(string(following), links)}", "- ")
        if isinstance(node, ast.FunctionDef) and _is_shown(node):
            yield f"- {_called(text, node)}\n\n{markdown(ast.get_docstring(node) or '', links, indent=2)}"


def _called(text: Source, node: ast.FunctionDef) -> str:
    """How a member is read or called; in a block of its own where one line is too short."""
    decorators = [text.of(decorator) for decorator in node.decorator_list]
    if "property" in decorators:
        return f"*property* `{node.name}: {text.of(node.returns)}`"
    kind = "*classmethod* " if "classmethod" in decorators else ""
    shown = signature(text, node, bound=True)
    return f"{kind}`{shown}`" if "\n" not in shown else f"{kind}`{node.name}`\n\n{indented(_block(shown), 2)}"


def _block(code: str) -> str:
    return f"```text\n{code}\n```"


def _is_shown(node: ast.FunctionDef) -> bool:
    public = not node.name.startswith("_") or node.name in CALLED
    return public and ast.get_docstring(node) is not None
