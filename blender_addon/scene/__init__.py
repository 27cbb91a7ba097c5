"""What the extension does to a Blender file: capture a subject, place a result, carry the jobs between."""

from . import result, rig, session

MODULES = (result, rig, session)


def register() -> None:
    for module in MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(MODULES):
        module.unregister()
