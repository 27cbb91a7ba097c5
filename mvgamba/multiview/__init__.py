"""A prompt or one image -> views of an object from known cameras: our own small model, and the big public ones."""

from mvgamba.registry import Registry

GENERATORS = Registry(
    "multi-view generator",
    {
        "starter": "mvgamba.multiview.starter_generator:starter_from_settings",
        "mvdream": "mvgamba.multiview.mvdream.generator:mvdream_from_settings",
        "imagedream": "mvgamba.multiview.mvdream.generator:imagedream_from_settings",
    },
)
"""Name -> function of `GeneratorSettings` that makes a `MultiviewGenerator` (see `protocol`)."""
