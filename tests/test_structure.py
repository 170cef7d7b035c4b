"""The structure of the code: no import goes in circles or climbs, and no folder is too full to know its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.structure import Structure, circles

ROOT = Path(__file__).parent.parent
CODE = Structure.of(ROOT)


def test_no_files_import_each_other_in_circles() -> None:
    assert circles(CODE.arrows) == []


def test_no_packages_import_each_other_in_circles() -> None:
    assert circles(CODE.packages()) == []


def test_no_import_climbs_the_floors() -> None:
    assert CODE.climbing() == []


def test_every_module_of_the_framework_lies_on_a_floor() -> None:
    floors = CODE.floors()
    faces = {"billhook", "billhook.__main__"}
    lost = [
        n
        for n in CODE.files
        if n.split(".")[0] == "billhook" and n not in faces and ".".join(n.split(".")[:2]) not in floors
    ]
    assert lost == []


def test_no_folder_holds_more_files_than_one_can_know() -> None:
    folder, count = CODE.fullest_folder()
    assert count <= 20, f"{folder} holds {count} files"


def test_a_package_says_what_it_is_for_and_imports_nothing() -> None:
    for name, file in CODE.files.items():
        if file.name == "__init__.py" and name not in ("billhook", "billhook.cli", "billhook.testing"):
            assert CODE.arrows[name] == frozenset(), name
            assert file.read_text(encoding="utf-8").startswith('"""'), name


def written(root: Path, files: dict[str, str]) -> Structure:
    for name, text in files.items():
        file = root / "framework/billhook" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (root / "pyproject.toml").write_text(
        '[[tool.importlinter.contracts]]\ntype = "layers"\n'
        'layers = ["billhook.top", "billhook.left | billhook.right"]\n'
    )
    return Structure.of(root)


@pytest.mark.parametrize(
    "back",
    [
        "from billhook.left.a import A",
        "def f():\n    from billhook.left.a import A",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from billhook.left.a import A",
        "import billhook.left.a",
        "from billhook.left import a",
    ],
)
def test_every_way_of_importing_counts(back: str, tmp_path: Path) -> None:
    files = {"__init__.py": "", "left/__init__.py": "", "left/a.py": "from billhook.left.b import B\nA = 1\n"}
    found = written(tmp_path, {**files, "left/b.py": back + "\nB = 1\n"})
    assert circles(found.arrows) == [["billhook.left.a", "billhook.left.b"]]


def test_arrows_to_a_higher_floor_or_to_a_neighbour_climb(tmp_path: Path) -> None:
    files = {f"{name}/{file}": "" for name in ("top", "left", "right") for file in ("__init__.py", "a.py")}
    up = {
        "left/a.py": "from billhook.top import a\nfrom billhook.right import a as b\n",
        "top/a.py": "import billhook.right.a",
    }
    found = written(tmp_path, {"__init__.py": "", **files, **up})
    assert found.climbing() == [("billhook.left.a", "billhook.right.a"), ("billhook.left.a", "billhook.top.a")]
    assert circles(found.packages()) == []
