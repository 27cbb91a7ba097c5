"""Names to factories, resolved on first use, so that importing the library builds and loads nothing."""

import importlib
from collections.abc import Callable
from typing import Any

from mvgamba.errors import Unavailable


class Registry:
    """A table from a name to a factory, or to `"module:attribute"` that is imported when asked for."""

    def __init__(self, kind: str, entries: dict[str, str | Callable[..., Any]] | None = None) -> None:
        self.kind = kind
        self._entries: dict[str, str | Callable[..., Any]] = dict(entries or {})

    def register(self, name: str, factory: str | Callable[..., Any]) -> None:
        if name in self._entries:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = factory

    def names(self) -> list[str]:
        return sorted(self._entries)

    def get(self, name: str) -> Callable[..., Any]:
        """Raises: Unavailable, naming what there is."""
        if name not in self._entries:
            raise Unavailable(f"There is no {self.kind} named {name!r}; there are: {', '.join(self.names())}.")
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            entry = getattr(importlib.import_module(module), attribute)
            self._entries[name] = entry
        return entry
