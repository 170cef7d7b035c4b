"""The structure of the code in figures: how full its folders are, and which imports go in circles or up the floors.

    python tools/structure.py            # of this checkout
    python tools/structure.py ELSEWHERE  # of another one

Read from the source alone: every import counts, at the top of a file, inside a function, or for type checkers.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs

ROOMS = {"framework": "billhook", "strategies": "billhook_strategies", "adapters": "billhook_adapters"}
"""By folder, the package in it."""

Arrows = Mapping[str, frozenset[str]]
"""By module or package, those that it imports."""


@attrs.frozen(eq=False)
class Structure:
    """The modules of a checkout and their imports.

    Attributes:
        root: of the checkout.
        files: by dotted name, where each module lies; a package by its ``__init__.py``.
        arrows: what each module imports of the others.
    """

    root: Path
    files: Mapping[str, Path]
    arrows: Arrows

    @classmethod
    def of(cls, root: Path) -> Structure:
        """Read from the source below ``root``."""
        files = {_dotted(file, root / room): file for room in ROOMS for file in sorted((root / room).rglob("*.py"))}
        return cls(root, files, {name: frozenset(_imports(file, name, files)) for name, file in files.items()})

    @property
    def arrow_count(self) -> int:
        """Pairs of modules of which one imports the other."""
        return sum(map(len, self.arrows.values()))

    def fullest_folder(self) -> tuple[str, int]:
        """The folder with the most Python files, and how many those are."""
        ((folder, count),) = Counter(str(f.parent.relative_to(self.root)) for f in self.files.values()).most_common(1)
        return folder, count

    def packages(self) -> Arrows:
        """The same arrows between folders. A module right in its room counts as one; arrows within one are left out."""
        folder = {name: self._folder(name) for name in self.files}
        found: dict[str, set[str]] = {package: set() for package in folder.values()}
        for name, targets in self.arrows.items():
            if not self._is_package(name):  # a face hands out what lies below it
                found[folder[name]] |= {folder[target] for target in targets if not self._is_face(target)}
        return {package: frozenset(targets - {package}) for package, targets in found.items()}

    def climbing(self) -> list[tuple[str, str]]:
        """Arrows from a floor of the framework to a higher one, or to a neighbour on the same; none without floors."""
        floors = self.floors()
        return [
            (name, target)
            for name, targets in self.arrows.items()
            for target in sorted(targets)
            if not _descends(_on(name, floors), _on(target, floors))
        ]

    def floors(self) -> dict[str, int]:
        """By package or module of the framework, its floor from the top, as ``pyproject.toml`` declares it."""
        text = (self.root / "pyproject.toml").read_text(encoding="utf-8")
        found: dict[str, int] = {}
        for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]:
            if contract["type"] == "layers" and all(layer.startswith("billhook.") for layer in contract["layers"]):
                for number, layer in enumerate(contract["layers"]):
                    found |= dict.fromkeys((name.strip() for name in layer.split("|")), number)
        return found

    def _folder(self, name: str) -> str:
        above = name.rpartition(".")[0]
        return name if self._is_package(name) or self._is_face(above) else above

    def _is_package(self, name: str) -> bool:
        return self.files[name].name == "__init__.py"

    def _is_face(self, name: str) -> bool:
        return name in ROOMS.values()


def circles(arrows: Arrows) -> list[list[str]]:
    """The groups of names each of which imports every other one, directly or not (strongly connected, by Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for target in sorted(arrows.get(name, ())):
            if target not in index:
                visit(target)
                low[name] = min(low[name], low[target])
            elif target in stack:
                low[name] = min(low[name], index[target])
        if low[name] == index[name]:
            start = stack.index(name)
            if len(stack) - start > 1:
                found.append(sorted(stack[start:]))
            del stack[start:]

    for name in sorted(arrows):
        if name not in index:
            visit(name)
    return found


def _dotted(file: Path, folder: Path) -> str:
    return ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


def _imports(file: Path, name: str, files: Iterable[str]) -> Iterator[str]:
    known = set(files)
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for target in _named(node, name, file.name == "__init__.py"):
            # a name that is no module is defined in the one that it is imported from
            module = target if target in known else target.rpartition(".")[0]
            if module in known and module != name:
                yield module


def _named(node: ast.AST, name: str, is_package: bool) -> Iterator[str]:
    """The dotted names that an import statement asks for."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        parts = name.split(".")
        up = parts[: len(parts) - node.level + is_package] if node.level else []
        yield from (".".join([*up, *([node.module] if node.module else []), alias.name]) for alias in node.names)


def _on(name: str, floors: Mapping[str, int]) -> tuple[str, int] | None:
    """The room that a module belongs to, and its floor; None outside all of them."""
    return next(((room, floor) for room, floor in floors.items() if f"{name}.".startswith(f"{room}.")), None)


def _descends(here: tuple[str, int] | None, there: tuple[str, int] | None) -> bool:
    return here is None or there is None or here[0] == there[0] or here[1] < there[1]


def report(structure: Structure) -> str:
    """The figures, one a line."""
    folder, count = structure.fullest_folder()
    of_files, of_packages = circles(structure.arrows), circles(structure.packages())
    climbing = structure.climbing()
    floors = structure.floors()
    lines = [
        f"files                    {len(structure.files)}",
        f"fullest folder           {count} files ({folder})",
        f"import arrows            {structure.arrow_count}",
        f"circles of files         {_circles(of_files)}",
        f"circles of packages      {_circles(of_packages)}",
        f"arrows that climb        {len(climbing) if floors else 'no floors declared'}",
    ]
    return "\n".join([*lines, *(f"  {here} -> {there}" for here, there in climbing)])


def _circles(found: list[list[str]]) -> str:
    if not found:
        return "none"
    return f"{len(found)}, of {' and '.join(str(len(one)) for one in found)}: " + "; ".join(map(", ".join, found))


if __name__ == "__main__":
    print(report(Structure.of(Path(sys.argv[1] if sys.argv[1:] else __file__.replace("tools/structure.py", ".")))))
