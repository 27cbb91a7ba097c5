"""Switching the extension on and off, and what Blender shows of it."""

import threading

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import extension  # noqa: E402

pytestmark = pytest.mark.blender


def traces():
    """What the extension may leave in Blender."""
    handlers = {
        name: [function.__module__ for function in getattr(bpy.app.handlers, name)]
        for name in dir(bpy.app.handlers)
        if isinstance(getattr(bpy.app.handlers, name), list)
    }
    return {
        "types": [name for name in dir(bpy.types) if name.startswith("MVGAMBA")],
        "operators": dir(bpy.ops.mvgamba),
        "properties": [
            t.__name__ for t in (bpy.types.Scene, bpy.types.Object, bpy.types.WindowManager) if hasattr(t, "mvgamba")
        ],
        "handlers": {name: [m for m in modules if "mvgamba" in m] for name, modules in handlers.items()},
        "threads": [thread.name for thread in threading.enumerate() if thread.name.startswith("mvgamba")],
    }


def test_enabling_and_disabling_twice_leaves_nothing(addon):
    bpy.ops.preferences.addon_disable(module=extension.MODULE)
    try:
        before = traces()
        assert not before["types"] and not before["properties"] and not any(before["handlers"].values())
        for _ in range(2):
            bpy.ops.preferences.addon_enable(module=extension.MODULE)
            assert traces()["types"] and traces()["properties"] == ["Scene", "Object", "WindowManager"]
            bpy.ops.preferences.addon_disable(module=extension.MODULE)
            assert traces() == before
    finally:
        bpy.ops.preferences.addon_enable(module=extension.MODULE)


def test_generate_says_why_it_is_grey(addon, scene):
    assert not bpy.ops.mvgamba.generate.poll()
    with pytest.raises(RuntimeError, match="Select an object to capture"):
        bpy.ops.mvgamba.generate()


def test_generate_without_a_backend_says_so(addon, scene, monkeypatch):
    from tests.blender_addon import props

    preferences = addon.module("ui.preferences")
    monkeypatch.setattr(preferences, "_found", None)
    props.add_cube().select_set(True)
    with pytest.raises(RuntimeError, match="Backend is not installed"):
        bpy.ops.mvgamba.generate()


def classes_of(addon):
    for module in addon.module("ui").MODULES:
        yield from getattr(module, "CLASSES", ())


def test_settings_become_a_capture_and_options(addon, scene):
    settings = scene.mvgamba
    settings.capture_views, settings.quality, settings.seed, settings.texture_size = "12", "DRAFT", 9, "2048"
    assert settings.capture_settings().num_views == 12
    options = settings.job_options()
    assert (options.quality, options.seed, options.texture_size) == ("draft", 9, 2048)


def test_defaults_of_the_panel_are_those_of_the_script_interface(addon, scene):
    assert scene.mvgamba.capture_settings() == addon.capture.CaptureSettings()
    assert scene.mvgamba.job_options() == addon.request.JobOptions()


class LayoutRecorder:
    """Takes the place of UILayout, which windowless Blender never hands out, and checks what is asked of it."""

    def __init__(self, calls):
        object.__setattr__(self, "calls", calls)

    def __setattr__(self, name, value):
        assert name in bpy.types.UILayout.bl_rna.properties, name

    def __getattr__(self, name):
        assert name in bpy.types.UILayout.bl_rna.functions or name in ("row", "column", "box"), name

        def call(*arguments, **options):
            self.calls.append((name, arguments, options))
            if name == "prop":
                assert arguments[1] in arguments[0].bl_rna.properties, arguments[1]
            if name == "operator":
                group, operator = arguments[0].split(".")
                assert operator in dir(getattr(bpy.ops, group)), arguments[0]
                return type("Properties", (), {})()
            return LayoutRecorder(self.calls)

        return call


def test_every_panel_draws(addon, scene):
    from types import SimpleNamespace

    from tests.blender_addon import props

    bpy.context.view_layer.objects.active = props.add_cube()
    session, jobs = addon.session(), addon.jobs
    target = addon.request.Target("Scene", "", (), ())
    for state in jobs.JobState:
        row = session.board.add(addon.request.JobRequest(state.value, (), addon.request.JobOptions(), target))
        row.state, row.reason, row.note = state, "OUT_OF_MEMORY", "Leave Edit Mode to place"
    try:
        for cls in (cls for cls in classes_of(addon) if "_PT_" in cls.__name__):
            calls: list = []
            cls.draw(SimpleNamespace(layout=LayoutRecorder(calls)), bpy.context)
            assert calls
    finally:
        session.board.rows.clear()


def placement_rows(addon):
    """Properties and sentences of the placement panel as it is now."""
    from types import SimpleNamespace

    calls: list = []
    addon.module("ui.placement").MVGAMBA_PT_placement.draw(SimpleNamespace(layout=LayoutRecorder(calls)), bpy.context)
    properties = [arguments[1] for name, arguments, _ in calls if name == "prop"]
    return properties, [options["text"] for name, _, options in calls if name == "label"]


def test_the_placement_panel_shows_what_counts_for_the_mode(addon, scene):
    from tests.blender_addon import props

    settings = scene.mvgamba
    settings.source = "CAPTURE"
    assert placement_rows(addon) == (["capture_placement", "collection", "source_after"], [])
    settings.capture_placement = "CURSOR"  # in its own size
    assert placement_rows(addon) == (["capture_placement", "use_ground", "collection", "source_after"], [])
    settings.source = "TEXT"
    assert placement_rows(addon) == (["placement", "target_size", "size_axis", "use_ground", "collection"], [])
    settings.placement = "REPLACE"
    properties = ["placement", "size_axis", "use_ground"]
    assert placement_rows(addon) == (properties, ["make the object to replace the active one"])
    bpy.context.view_layer.objects.active = props.add_cube("Crate")
    assert placement_rows(addon) == (properties, ["Replaces the mesh of Crate"])


def test_generate_says_what_cannot_be_replaced(addon, scene, monkeypatch):
    main = addon.module("ui.main")
    monkeypatch.setattr(main, "general_obstacle", lambda _context: "")  # there may be no backend here
    settings = scene.mvgamba
    settings.prompt, settings.placement = "a barrel", "REPLACE"
    assert main.obstacle(bpy.context, "TEXT") == "To replace: make the object to replace the active one"
    settings.placement = "CURSOR"
    assert main.obstacle(bpy.context, "TEXT") == ""
