"""New plugins: a folder with a distribution that works and is tested, to begin from."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from billhook.errors import InvalidConfig, OutputExists, did_you_mean, listing
from billhook.files.own_folder import OwnFolder
from billhook.files.renaming import rename_new
from billhook.files.syncing import sync_tree
from billhook.version import __version__

TEMPLATES = ("selector", "estimator", "merger", "objective", "adapter", "recipe", "hook")
"""What there is a template for."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def new_plugin(name: str, role: str, parent: Path) -> Path:
    """Write the folder ``billhook-NAME`` into ``parent`` and return its path.

    Raises:
        InvalidConfig: the name is not lower-case words joined by ``-``, or there is no such role.
        OutputExists: the folder is there already, or cannot be made.
    """
    if not _NAME.fullmatch(name):
        raise InvalidConfig(f"A plugin's name is lower-case words joined by '-'; got {name!r}.")
    if role not in TEMPLATES:
        near = did_you_mean(role, TEMPLATES)
        raise InvalidConfig(f"There is no template for the role {role!r}.{near} Known: {listing(TEMPLATES)}.")
    folder, module = parent / f"billhook-{name}", f"billhook_{name.replace('-', '_')}"
    words = {
        "@NAME@": name,
        "@ROLE@": role,
        "@MODULE@": module,
        "@CLASS@": "".join(word.capitalize() for word in name.split("-")),
        "@VERSION@": __version__,
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{module}.py": role,
        f"test_{module}.py": f"{role}_test",
    }
    texts = {file: _filled(template, words) for file, template in files.items()}
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with OwnFolder(f".{folder.name}", parent) as beside:
            draft = beside.path / folder.name
            draft.mkdir()
            for file, text in texts.items():
                (draft / file).write_text(text, encoding="utf-8")
            sync_tree(draft)
            rename_new(draft, folder)
    except FileExistsError as error:
        raise OutputExists(f"{folder} is there already. Choose another name, or another folder with --out.") from error
    except OSError as error:
        raise OutputExists(f"{folder} cannot be made: {error}. Choose another folder with --out.") from error
    return folder


def _filled(template: str, words: dict[str, str]) -> str:
    text = (resources.files("billhook.plugins") / "templates" / f"{template}.txt").read_text(encoding="utf-8")
    for word, value in words.items():
        text = text.replace(word, value)
    return text
