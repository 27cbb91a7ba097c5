"""One operation, several implementations: the fastest that can run is chosen by device and by what is installed."""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from mvgamba.errors import Unavailable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """An implementation. `function` is `"module:attribute"`, imported on first use."""

    name: str
    function: str
    why_not: Callable[[torch.device], str | None]
    """None when it can run on the device, else one sentence that says why it cannot."""


def always(device: torch.device) -> str | None:
    """For a reference in plain torch: it runs anywhere."""
    return None


class Kernel:
    """An operation with its variants, best first; one of them is called `reference` and defines the result.

    Calling the kernel runs the first variant that can run on the device of the first tensor argument. `use(name)`
    forces one within a `with` block; a forced variant that cannot run raises `Unavailable`.
    """

    def __init__(self, name: str, variants: list[Variant]) -> None:
        self.name = name
        self.variants = {v.name: v for v in variants}
        assert "reference" in self.variants
        self._forced: ContextVar[str | None] = ContextVar(f"forced_{name}", default=None)
        self._functions: dict[str, Callable[..., Any]] = {}
        self._logged: set[tuple[str, str]] = set()

    @contextmanager
    def use(self, variant: str) -> Iterator[None]:
        """Force a variant in this context. Raises: Unavailable if there is none of that name."""
        if variant not in self.variants:
            raise Unavailable(f"{self.name} has no variant {variant!r}; there are: {', '.join(self.variants)}.")
        token = self._forced.set(variant)
        try:
            yield
        finally:
            self._forced.reset(token)

    def choose(self, device: torch.device | str) -> str:
        """The name of the variant that a call on `device` would run. Raises: Unavailable."""
        device = torch.device(device)
        forced = self._forced.get()
        if forced is not None:
            reason = self.variants[forced].why_not(device)
            if reason is not None:
                raise Unavailable(f"{self.name}: the variant {forced!r} cannot run on {device}: {reason}")
            return forced
        for variant in self.variants.values():
            if variant.why_not(device) is None:
                return variant.name
        raise Unavailable(f"{self.name}: no variant can run on {device}.")

    def explain(self, device: torch.device | str) -> dict[str, str | None]:
        """For every variant None if it can run on `device`, else why not."""
        return {v.name: v.why_not(torch.device(device)) for v in self.variants.values()}

    def function(self, variant: str) -> Callable[..., Any]:
        if variant not in self._functions:
            module, _, attribute = self.variants[variant].function.partition(":")
            self._functions[variant] = getattr(importlib.import_module(module), attribute)
        return self._functions[variant]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        device = next((a.device for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor)), torch.device("cpu"))
        name = self.choose(device)
        if (name, device.type) not in self._logged:
            self._logged.add((name, device.type))
            log.info("%s on %s: variant %s", self.name, device.type, name)
        return self.function(name)(*args, **kwargs)
