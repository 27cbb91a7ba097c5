"""What a person sees: properties, operators, panels, preferences."""

from . import operators, panels, preferences, properties, redraw

_MODULES = (preferences, properties, operators, panels, redraw)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(_MODULES):
        module.unregister()
