"""What the extension does to a Blender file: capture a subject, place a result, carry the jobs between."""

from . import history, result, rig, session, variants

MODULES = (result, rig, session, variants, history)


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
