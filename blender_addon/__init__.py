"""MVGamba for Blender: objects of the scene, captured and reconstructed, come back as textured meshes in their place.

Blender is imported inside `register` only, so that `core` can be used and tested without it.
"""


def register() -> None:
    from . import scene, translations, ui

    translations.register()
    scene.register()
    ui.register()


def unregister() -> None:
    from . import scene, translations, ui

    ui.unregister()
    scene.unregister()
    translations.unregister()
