"""Modules that are imported when the first name of them is used, so that a cold start is short.

It must not know which modules those are.
"""

import importlib
from types import ModuleType
from typing import Any


class _OnUse(ModuleType):
    """Stands for a module, and looks every name up in it.

    The standard library's LazyLoader is not safe when threads use a module for the first time at
    once (before Python 3.12.3); a plain import is.
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        """Import the module if need be, and return what it calls by this name."""
        return getattr(importlib.import_module(self.__name__), name)


def on_use(name: str) -> Any:  # noqa: ANN401 - the module's own type is told by TYPE_CHECKING
    """Name a module without importing it yet (docs/decisions/0006)."""
    return _OnUse(name)
