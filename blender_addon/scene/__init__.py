"""What the extension does to a Blender file: capture a subject, place a result, carry the jobs between."""

from . import result, session


def register() -> None:
    result.register()
    session.register()


def unregister() -> None:
    session.unregister()
    result.unregister()
