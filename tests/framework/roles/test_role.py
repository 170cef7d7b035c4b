"""Every role has its abstract class and its hook."""

from __future__ import annotations

import inspect

from billhook.plugins import hookspecs
from billhook.roles.role import ROLES


def test_the_registration_hook_of_every_role_exists() -> None:
    for role, info in ROLES.items():
        assert info.hook == f"billhook_register_{role}s"
        assert hasattr(hookspecs, info.hook)
        assert inspect.isabstract(info.base)
