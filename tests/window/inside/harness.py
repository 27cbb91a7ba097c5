"""Runs in Blender: steps through a scenario from a timer, as mouse and keyboard would, and writes a report.

A scenario is a module beside this one with `steps(window)`, a generator that yields the seconds to wait before it goes on.
"""

import importlib
import json
import socket
import sys
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import bpy

EXTENSION = "bl_ext.user_default.mvgamba"
FOLDER = Path(__file__).resolve().parent


class Window:
    """Blender's window as a person has it: where things are, what can be clicked, what is on the screen."""

    def __init__(self, setting: dict[str, Any]) -> None:
        self.options: dict[str, Any] = setting["options"]
        self.report: dict[str, Any] = {"blender": bpy.app.version_string}
        self.zip_path: str = setting["zip"]
        self.clicks = 0
        self._pipeline: str = setting["pipeline"]
        self._key = setting["key"]
        self._lines = socket.create_connection(("127.0.0.1", setting["port"])).makefile("rw")

    def ask(self, want: str, **values: Any) -> Any:
        """Have something done outside: move, click, drag, press, type, screenshot, copy, threads."""
        self._lines.write(json.dumps({"key": self._key, "want": want, **values}) + "\n")
        self._lines.flush()
        return json.loads(self._lines.readline())

    @staticmethod
    def module(name: str) -> ModuleType:
        """A module of the enabled extension; not to be kept, it may be disabled and enabled."""
        return importlib.import_module(f"{EXTENSION}.{name}")

    def use_pipeline(self) -> None:
        """Have the backend started as the scenario wants it. Preferences are lost when the extension is disabled."""
        preferences = bpy.context.preferences.addons[EXTENSION].preferences
        preferences.backend_arguments = "" if self._pipeline == "real" else f"--pipeline {self._pipeline}"
        self.module("ui.preferences").check_backend()

    def panel_classes(self) -> list[type]:
        return [cls for cls in bpy.types.Panel.__subclasses__() if cls.__module__.startswith(EXTENSION)]

    def open_panels(self, *names: str) -> None:
        """Open panels (all, when none is named) that are closed by default, by registering them anew before they are drawn
        for the first time."""
        for cls in self.panel_classes():
            if not names or cls.__name__ in names:
                cls.bl_options = set(getattr(cls, "bl_options", ())) - {"DEFAULT_CLOSED"}
        bpy.ops.preferences.addon_disable(module=EXTENSION)
        bpy.ops.preferences.addon_enable(module=EXTENSION)
        self.use_pipeline()

    @property
    def main(self) -> bpy.types.Window:
        return bpy.context.window_manager.windows[0]

    @property
    def view(self) -> bpy.types.Area:
        """The 3D View."""
        return next(area for area in self.main.screen.areas if area.type == "VIEW_3D")

    def region(self, kind: str) -> bpy.types.Region:
        return next(region for region in self.view.regions if region.type == kind)

    def override(self, kind: str = "WINDOW") -> Any:
        return bpy.context.temp_override(window=self.main, area=self.view, region=self.region(kind))

    def box(self, kind: str) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of a region, pixels from the upper left of the screen."""
        region, height = self.region(kind), self.main.height
        return region.x, height - region.y - region.height, region.x + region.width, height - region.y

    def open_sidebar(self, category: str = "MVGamba") -> Iterator[float]:
        """Show the sidebar with the tab of this name."""
        bpy.context.preferences.view.show_splash = False
        self.view.spaces.active.show_region_ui = True
        yield 0.5
        self.region("UI").active_panel_category = category
        self.view.tag_redraw()
        yield 1.0

    def click(self, x: float, y: float, **values: Any) -> None:
        """A real click, counted."""
        self.clicks += 1
        self.ask("click", x=x, y=y, **values)

    def find(self, wanted: str, *, across: float = 0.5, found: list[tuple[float, float]]) -> Iterator[float]:
        """Look for the button of an operator (mvgamba.generate) or a property (mvgamba.prompt) in the sidebar.

        Blender does not say where its buttons are; but it can tell which one is under the mouse, so the mouse goes down
        the sidebar until it is there. The place is put into `found`, or nothing is.
        """
        left, top, right, bottom = self.box("UI")
        x = left + across * (right - left - 24)  # the tabs take the last 24 pixels
        y = top + 10.0
        while y < bottom:
            self.ask("move", x=x, y=y)
            yield 0.06
            if wanted in self.under_mouse():
                found.append((x, y + 4))
                return
            y += 9

    def place_of(self, wanted: str, *, across: float = 0.5) -> Generator[float, None, tuple[float, float]]:
        """Where the button of an operator is in the sidebar. Takes the clipboard. Raises: LookupError."""
        places: list[tuple[float, float]] = []
        for _ in range(3):  # a busy machine may be late to tell what is under the mouse
            yield from self.find(wanted, across=across, found=places)
            if places:
                return places[0]
        raise LookupError(f"the sidebar has no button {wanted}")

    def press_button(self, wanted: str, *, across: float = 0.5) -> Iterator[float]:
        """Click the button of an operator in the sidebar. Takes the clipboard. Raises: LookupError."""
        place = yield from self.place_of(wanted, across=across)
        self.click(*place)
        yield 0.5

    def under_mouse(self) -> str:
        """What the button under the mouse does, in Python; empty where there is none."""
        manager = bpy.context.window_manager
        with self.override("UI"):
            for operator, options in (
                (bpy.ops.ui.copy_python_command_button, {}),
                (bpy.ops.ui.copy_data_path_button, {"full_path": True}),
            ):
                if operator.poll():
                    operator(**options)
                    return manager.clipboard
        return ""

    def click_tab(self, category: str = "MVGamba") -> Iterator[float]:
        """Click the tab of the sidebar that has this name. It is looked for with clicks, of which one is counted."""
        _left, top, right, bottom = self.box("UI")
        y = top + 20
        while self.region("UI").active_panel_category != category:
            if y > bottom:
                raise LookupError(f"the sidebar has no tab {category}")
            self.ask("click", x=right - 12, y=y)
            yield 0.4
            y += 30
        self.clicks += 1

    def sidebar_picture(self, name: str) -> None:
        """Keep the sidebar as it is on the screen."""
        self.ask("screenshot", name=name, box=self.box("UI"), trim=True)

    def use_theme(self, name: str) -> None:
        """Blender_Dark or Blender_Light, as they come with Blender."""
        folder = bpy.utils.preset_paths("interface_theme")[0]
        with self.override():
            bpy.ops.script.execute_preset(
                filepath=str(Path(folder) / f"{name}.xml"), menu_idname="USERPREF_MT_interface_theme_presets"
            )


def until(condition: Callable[[], object], seconds: float, what: str) -> Iterator[float]:
    """Wait for something. Raises: TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        yield 0.1


def main() -> None:
    setting = json.loads((FOLDER.parent / "setting.json").read_text())
    sys.path.insert(0, str(FOLDER))
    window = Window(setting)
    if setting["installed"]:
        window.use_pipeline()
    bpy.context.preferences.view.show_splash = False
    steps = importlib.import_module(setting["scenario"]).steps(window)

    def step() -> float | None:
        window.report.setdefault("first_step", time.time())
        try:
            return next(steps)
        except StopIteration:
            pass
        except Exception:  # noqa: BLE001 - it goes into the report, for whoever started the scenario
            window.report["error"] = traceback.format_exc()
            window.ask("screenshot", name="error")
        Path(setting["report"]).write_text(json.dumps(window.report))
        with bpy.context.temp_override(window=window.main):
            bpy.ops.wm.quit_blender()
        return None

    bpy.app.timers.register(step, first_interval=2.0, persistent=True)


if __name__ == "__main__":
    sys.modules["harness"] = sys.modules["__main__"]
    main()
