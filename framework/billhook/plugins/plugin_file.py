"""Plugins and strategies that nobody installed: a Python file, and a class by the name of its module."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from billhook.errors import PluginError, did_you_mean

SUFFIX = ".py"


def read_plugin(path: str | Path) -> ModuleType:
    """Run a Python file and return it as a module.

    Raises:
        PluginError: it is not there, is no Python file, or raises; says which line.
    """
    file = Path(path)
    if file.suffix != SUFFIX or not file.is_file():
        what = "is no Python file" if file.exists() else "is not there"
        raise PluginError(
            f"The plugin file {file} {what}. A plugin is a {SUFFIX} file with hooks: see docs/plugins.md."
        )
    file = file.resolve()
    name = f"billhook_plugin_file_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"Python cannot import the plugin file {file}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # whoever resolves the annotations of its classes looks here
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a file that exits is a broken file, not the end of billhook
        del sys.modules[name]
        raise PluginError(
            f"The plugin file {path} cannot be used: {type(error).__name__}: {error}{_line_of(error, file)}. Mend it, "
            f"or leave it out."
        ) from error
    return module


def fingerprint(path: str | Path) -> str:
    """Of a file's content, as the version of what it brings: the first 12 digits of its SHA-256."""
    return "sha256-" + hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]


def is_reference(name: str) -> bool:
    """Whether a strategy's name is ``module:Class`` or ``FILE.py:Class``; ``dist:name`` has no capitals."""
    module, colon, attribute = name.rpartition(":")
    if not colon or not attribute.isidentifier() or attribute.islower():
        return False
    return module.endswith(SUFFIX) or all(part.isidentifier() for part in module.split("."))


def find(reference: str) -> tuple[str, Any]:
    """What ``module:Class`` or ``FILE.py:Class`` names, and whose it is: the module, or the file without its folder.

    Modules are looked for where Python looks for them, and then in the present folder.

    Raises:
        PluginError: it cannot be imported, or has no such attribute.
    """
    source, _, attribute = reference.rpartition(":")
    if source.endswith(SUFFIX):
        module, owner = read_plugin(source), Path(source).name
    else:
        module, owner = _imported(source), source
    if not hasattr(module, attribute):
        known = [name for name in vars(module) if not name.startswith("_")]
        raise PluginError(f"{source} has no {attribute!r}.{did_you_mean(attribute, known)} A class is MODULE:CLASS.")
    return owner, getattr(module, attribute)


def _imported(name: str) -> ModuleType:
    try:
        with _present_folder():
            return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise PluginError(
            f"The module {name} cannot be imported: {type(error).__name__}: {error}. A class is MODULE:CLASS, of a "
            f"module that is installed or lies in the present folder, or FILE.py:CLASS."
        ) from error


@contextmanager
def _present_folder() -> Iterator[None]:
    """Modules of the present folder can be imported inside; what is installed goes before."""
    here = str(Path.cwd())
    if here in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _line_of(error: BaseException, file: Path) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == file]
    if isinstance(error, SyntaxError):
        return ""  # says it itself
    return f" (line {lines[-1]})" if lines else ""
