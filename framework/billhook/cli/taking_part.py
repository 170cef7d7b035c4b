"""Which plugins take part in a command: those that are installed, files, and classes. Imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from billhook.plugins.plugin_file import is_reference
from billhook.plugins.registry import Registry, default_registry
from billhook.roles.role import Role


def registry_with(files: Sequence[Path] | None) -> Registry:
    """All installed plugins, and those of ``--plugin``.

    Raises:
        PluginError: a file cannot be used as a plugin; says why.
    """
    return default_registry().with_files(files) if files else default_registry()


def with_named_classes(registry: Registry, names: Mapping[Role, str | None]) -> Registry:
    """``registry`` with the classes among the ``names`` of strategies, which are ``MODULE:CLASS`` or ``FILE.py:CLASS``.

    What is offered as ``dist:name`` goes before.

    Raises:
        PluginError: a class cannot be imported, or does not play its role.
    """
    for role, name in names.items():
        if name is not None and is_reference(name) and name not in registry.qualified_names(role):
            registry = registry.with_class(role, name)
    return registry


def as_registered(name: str | None) -> str | None:
    """A strategy's name as the registry and plans have it: of a file only its name, without the folder."""
    if name is None or not is_reference(name):
        return name
    source, _, attribute = name.rpartition(":")
    return f"{Path(source).name}:{attribute}" if source.endswith(".py") else name


def prepared(files: Sequence[Path] | None, names: Mapping[Role, str | None]) -> tuple[Registry, dict[Role, str | None]]:
    """The registry for a command, and the names of strategies as it knows them."""
    registry = with_named_classes(registry_with(files), names)
    return registry, {role: as_registered(name) for role, name in names.items()}
