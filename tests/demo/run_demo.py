"""The whole way, headless: build props, capture them with the extension, reconstruct, place, compare; then words and one picture.

    MVGAMBA_BACKEND=.venv/bin/mvgamba-backend <python with bpy> tests/demo/run_demo.py --out out/demo

`make demo` does this. No network and no GPU are used.
"""

import argparse
import contextlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.blender_addon import extension  # noqa: E402

PROMPT = "a red wooden barrel"
HELD_OUT = ((25.0, 22.0), (200.0, 58.0), (118.0, -16.0))
"""Azimuth and elevation in degrees; at least 24 degrees from every camera of the largest rig."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo")
    parser.add_argument("--views", choices=("4", "8", "12", "16"), default="8")
    parser.add_argument("--quality", choices=("draft", "standard", "high"), default="standard")
    parser.add_argument("--no-depth", action="store_true", help="send colours and outlines only")
    parser.add_argument("--only", help="name of one prop")
    parser.add_argument("--backend-arguments", default="", help="added to the command line of the backend")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mvgamba-demo-") as folder:
        extension.use_folder(folder)
        with quiet_blender(arguments.out / "blender.log"):
            run(arguments)


def run(arguments: argparse.Namespace) -> None:
    import bpy

    from tests.demo.props import build_scene
    from tests.demo.sheet import SheetRow, draw_sheet, score

    extension.enable()
    bpy.context.preferences.addons[extension.MODULE].preferences.backend_arguments = arguments.backend_arguments
    session = extension.module("scene.session").session()
    api, errors = extension.module("api"), extension.module("core.errors")
    rows, results = [], []
    for prop in build_scene():
        if arguments.only and prop.name.lower() != arguments.only.lower():
            continue
        look = Onlooker([prop], arguments.out / "views" / prop.name.lower())
        sources = look("source", [prop])
        settings = bpy.context.scene.mvgamba
        settings.capture_views = arguments.views
        settings.capture_depth = not arguments.no_depth
        settings.quality = arguments.quality.upper()
        settings.source_after = "HIDE"
        select_only(prop)
        began = time.monotonic()
        if bpy.ops.mvgamba.generate() != {"FINISHED"}:
            sys.exit(f"Generate refused {prop.name}; see {arguments.out / 'blender.log'}")
        job = session.board.rows[0]
        say(f"{prop.name}: captured {len(job.request.views)} views in {job.request.capture['seconds']:.1f} s")
        try:
            api.wait_for(job)
        except errors.AddonError as error:
            log = shutil.copy(api.log_path(), arguments.out / "backend.log")
            sys.exit(f"{prop.name}: {error}; see {log}")
        together = time.monotonic() - began
        result = next(obj for obj in bpy.data.objects if obj.mvgamba.job_id == job.job_id)
        shutil.copy(job.result_path, arguments.out / f"{prop.name.lower()}.glb")
        placed = look("result", [result])
        seconds = {"capture": job.request.capture["seconds"], **job.stage_seconds}
        seconds["transfer and placing"] = together - sum(seconds.values())  # also the start of the backend, once
        inputs = [read_picture(view.image_path) for view in job.request.views]
        rows.append(SheetRow(prop.name, inputs, sources, placed, seconds, len(result.data.polygons)))
        scores = score(sources, placed)
        say(
            f"{prop.name}: {together:.1f} s, PSNR {scores.psnr:.1f} dB, "
            f"foreground {scores.foreground_psnr:.1f} dB, IoU {scores.iou:.3f}"
        )
        results.append({"name": prop.name, **vars(scores), "seconds": seconds, "faces": len(result.data.polygons)})
    if not arguments.only:
        picture = session.board.rows[-1].request.views[0].image_path
        for name, source, spot in (
            ("Words", api.TextInput(PROMPT), (-2.6, -1.2, 0.0)),
            ("Picture", api.ImageInput(picture), (2.8, 0.9, 0.0)),
        ):
            row, result = made_from(source, spot, arguments, api, errors)
            look = Onlooker([result], arguments.out / "views" / name.lower())
            pictures = look("result", [result])
            shutil.copy(row.result_path, arguments.out / f"{name.lower()}.glb")
            inputs = [read_picture(picture)] if name == "Picture" else []
            said = "nothing in the scene to compare with; the sides that no picture shows are made up"
            rows.append(
                SheetRow(name, inputs, [], pictures, row.stage_seconds, len(result.data.polygons), PROMPT, said)
            )
            results.append({"name": name, "seconds": row.stage_seconds, "faces": len(result.data.polygons)})
            say(f"{name}: {sum(row.stage_seconds.values()):.1f} s, {len(result.data.polygons)} faces")
    sheet, blend, figures = (arguments.out / name for name in ("contact_sheet.png", "demo.blend", "figures.json"))
    depth = "without depth" if arguments.no_depth else "with depth"
    title = (
        f"{arguments.views} views {depth}, {arguments.quality}: seen without light from cameras that were not inputs"
    )
    draw_sheet(rows, sheet, title=title)
    figures.write_text(json.dumps(results, indent=2) + "\n")
    bpy.ops.file.pack_all()
    bpy.ops.wm.save_as_mainfile(filepath=str(blend.resolve()))
    bpy.ops.preferences.addon_disable(module=extension.MODULE)  # ends the backend
    say(
        f"Contact sheet  {sheet}\nBlender file   {blend}\nGLB files      {arguments.out}/*.glb\nFigures        {figures}"
    )


def made_from(source, spot: tuple[float, float, float], arguments: argparse.Namespace, api, errors):
    """The row and the object of a job from words or from one picture, standing at a spot of the ground."""
    import bpy

    from_extension = extension.module("core.request")
    options = from_extension.JobOptions(quality=arguments.quality)
    row = api.generate_from(source, options=options, size=0.9, location=spot, wait=False)
    try:
        api.wait_for(row)
    except errors.AddonError as error:
        log = shutil.copy(api.log_path(), arguments.out / "backend.log")
        sys.exit(f"{type(source).__name__}: {error}; see {log}")
    return row, next(obj for obj in bpy.data.objects if obj.mvgamba.job_id == row.job_id)


class Onlooker:
    """Looks at one place with cameras that take no part in the capture."""

    def __init__(self, objects: list, folder: Path, *, image_size: int = 448) -> None:
        import bpy

        self._capture = extension.module("scene.capture")
        self._subject = extension.module("scene.subject")
        cameras = extension.module("core.cameras")
        self._folder = folder
        self._settings = self._capture.CaptureSettings(image_size=image_size, with_depth=False, samples=16)
        created: list = []
        self._sphere = self._subject.bounding_sphere(self._subject.evaluated_parts(bpy.context, objects, created))
        bpy.data.batch_remove(created)
        distance = cameras.orbit_distance(self._sphere.radius)
        self._rig = tuple(
            cameras.CaptureCamera(
                math.radians(azimuth),
                math.radians(elevation),
                cameras.orbit_c2w(
                    self._sphere.center,
                    azimuth=math.radians(azimuth),
                    elevation=math.radians(elevation),
                    distance=distance,
                ),
                cameras.FOVY,
                distance,
            )
            for azimuth, elevation in HELD_OUT
        )

    def __call__(self, name: str, objects: list) -> list:
        """RGBA pictures of `objects`; the cameras stay where they were for the first."""
        import bpy

        views = self._capture.render_rig(
            bpy.context, objects, self._rig, self._sphere, self._folder / name, self._settings
        )
        return [read_picture(view.image_path) for view in views]


def read_picture(path: Path):
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.array(image)


def select_only(obj) -> None:
    import bpy

    for other in bpy.context.selected_objects:
        other.select_set(False)
    obj.select_set(True)
    bpy.context.view_layer.objects.active = obj


_terminal = sys.stdout


def say(text: str) -> None:
    print(text, file=_terminal, flush=True)


@contextlib.contextmanager
def quiet_blender(log: Path) -> Iterator[None]:
    """Send what Blender prints (a line for each step of each render) to a file instead of the terminal."""
    global _terminal
    sys.stdout.flush()
    kept = os.dup(1)
    with log.open("wb") as file, os.fdopen(kept, "w", encoding="utf-8", closefd=False) as terminal:
        _terminal = terminal
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            sys.stdout.flush()
            os.dup2(kept, 1)
            _terminal = sys.stdout
    os.close(kept)


if __name__ == "__main__":
    main()
