"""The entry of the keymap: it waits for a key that a person gives it, and leaves with the extension."""

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402

pytestmark = pytest.mark.blender

KEY = {"type": "G", "ctrl": True, "alt": True}


def entries(kind):
    """Ours in a configuration of keys (addon, user or default), with the name of their keymap."""
    configurations = bpy.context.window_manager.keyconfigs
    configurations.update()
    keymaps = getattr(configurations, kind).keymaps
    return [(keymap.name, item) for keymap in keymaps for item in keymap.keymap_items if "mvgamba" in item.idname]


def test_the_entry_has_no_key_and_a_person_finds_it(addon):
    for kind in ("addon", "user"):
        ((keymap, item),) = entries(kind)
        assert (keymap, item.idname, item.type, item.active) == ("Object Mode", "mvgamba.generate", "NONE", True), kind
        assert item.name == "Generate"
    assert not entries("default")


def test_a_key_that_a_person_gave_it_comes_back_and_nothing_else_stays(addon):
    ((_, item),) = entries("user")
    for name, value in KEY.items():
        setattr(item, name, value)
    bpy.context.window_manager.keyconfigs.update()  # as the main loop of a window does
    try:
        for _ in range(2):
            bpy.ops.preferences.addon_disable(module=extension.MODULE)
            assert not entries("addon") and not entries("user")
            bpy.ops.preferences.addon_enable(module=extension.MODULE)
            ((_, made),) = entries("addon")
            assert made.type == "NONE"
            ((_, item),) = entries("user")
            if bpy.app.version >= (4, 5, 0):  # 4.2 forgets keys of what is not there for a moment
                assert {name: bool(getattr(item, name)) if name != "type" else item.type for name in KEY} == KEY
    finally:
        configurations = bpy.context.window_manager.keyconfigs
        keymap = configurations.user.keymaps["Object Mode"]
        keymap.restore_to_default()
        configurations.update()
    ((_, item),) = entries("user")
    assert item.type == "NONE"
