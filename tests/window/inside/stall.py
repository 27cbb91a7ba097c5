"""How long Blender does not answer while jobs run: four at a time, with previews, a capture now and then, results that are placed."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bmesh
import bpy
from harness import EXTENSION, Window, until
from probe import Probe

IDLE = 20.0
"""Seconds without jobs before, for comparison."""
REDRAWS = 6
"""Of a sidebar with nothing of ours in it, in a second, for comparison too: about as many as four jobs ask for."""
ADDS = 2.0
"""Seconds between two cubes by Blender's own Add menu, for comparison too: about as often as a result comes."""


def steps(window: Window) -> Iterator[float]:
    yield from window.open_sidebar()
    report, seconds = window.report, window.options["seconds"]
    report["enable_ms"] = enable_times()
    window.use_pipeline()
    yield from window.open_sidebar()
    settings = bpy.context.scene.mvgamba
    settings.capture_views, settings.quality, settings.source = "8", "DRAFT", "TEXT"
    idle = Probe()
    idle.start()
    yield IDLE
    idle.stop()
    report["idle"] = idle.figures()
    yield from window.open_sidebar("Item")
    other = Probe()
    other.start()
    for _ in range(int(IDLE * REDRAWS)):
        window.region("UI").tag_redraw()
        yield 1.0 / REDRAWS
    other.stop()
    report["other_tab"] = other.figures()
    cubes = Probe()
    cubes.start()
    for number in range(int(IDLE / ADDS)):
        with window.override():
            bpy.ops.mesh.primitive_cube_add("EXEC_DEFAULT", True, location=(number % 7, number % 5, 0))
        yield ADDS
    cubes.stop()
    report["own_cubes"] = cubes.figures()
    yield from window.open_sidebar()
    api, session = window.module("api"), window.module("scene.session").session()
    # The backend's start is not part of it.
    first = api.generate_from(window.module("core.request").TextInput("first"), wait=False)
    yield from until(lambda: not first.is_active, 60, "the first job")
    cube = bpy.data.objects["Cube"]
    probe, sent, captures = Probe(), 0, 0
    probe.start()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if session.board.num_active < 4:
            sent += 1
            if sent % 8 == 0:
                captures += 1
                cube.name = "Cube #slow:3"
                api.generate([cube], wait=False, capture_settings=settings.capture_settings())
            else:
                text = f"prop {sent} #slow:{3 + sent % 4} #preview:3"
                api.generate_from(
                    window.module("core.request").TextInput(text), wait=False, location=(sent % 7, sent % 5, 0)
                )
        yield 0.2
    yield from until(lambda: not session.board.num_active, 300, "the last jobs")
    probe.stop()
    states = [row.state.value for row in session.board.rows]
    report["busy"] = probe.figures() | {"jobs": sent, "captures": captures}
    report["states"] = {state: states.count(state) for state in sorted(set(states))}
    yield 0.5
    report["import_20k_ms"] = import_times(session.board.rows[0], window.module("core.mesh_file").prepare)


def enable_times(rounds: int = 5) -> list[float]:
    """Milliseconds that enabling takes; the first time includes loading gRPC, which the harness has done already."""
    times = []
    for _ in range(rounds):
        bpy.ops.preferences.addon_disable(module=EXTENSION)
        began = time.perf_counter()
        bpy.ops.preferences.addon_enable(module=EXTENSION)
        times.append(round(1e3 * (time.perf_counter() - began), 1))
    return times


def import_times(row: object, prepare: Callable[[list[Path]], None], rounds: int = 3) -> dict[str, list]:
    """Milliseconds for a textured mesh of 20,000 triangles: Blender's import alone, and placing a result as a whole.

    Args:
        prepare: What the thread of a job does with its files.
    """
    path = Path(tempfile.mkdtemp()) / "large.glb"
    write_glb(path)
    alone, placed = [], []
    for _ in range(rounds):
        began = time.perf_counter()
        bpy.ops.import_scene.gltf(filepath=str(path), merge_vertices=False)
        alone.append(round(1e3 * (time.perf_counter() - began)))
    shutil.copy(path, row.result_path)
    prepare([row.result_path])
    for _ in range(rounds):
        began = time.perf_counter()
        bpy.ops.mvgamba.place_result(request_id=row.id)
        placed.append(round(1e3 * (time.perf_counter() - began)))
    probe = Probe()
    probe.start()
    began = time.perf_counter()
    bpy.ops.mvgamba.place_result(request_id=row.id)
    calls = probe.ran_between(began, time.perf_counter())
    probe.stop()
    return {"import": alone, "place": placed, "calls": calls}


def write_glb(path: Path) -> None:
    mesh = bmesh.new()
    mesh.loops.layers.uv.new("UVMap")
    bmesh.ops.create_uvsphere(mesh, u_segments=100, v_segments=101, radius=1.0, calc_uvs=True)
    bmesh.ops.triangulate(mesh, faces=mesh.faces)
    data = bpy.data.meshes.new("Large")
    mesh.to_mesh(data)
    mesh.free()
    image = bpy.data.images.new("Large", 1024, 1024)
    image.generated_type = "COLOR_GRID"
    material = bpy.data.materials.new("Large")
    material.use_nodes = True
    texture = material.node_tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    shader = next(node for node in material.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
    material.node_tree.links.new(texture.outputs["Color"], shader.inputs["Base Color"])
    data.materials.append(material)
    obj = bpy.data.objects.new("Large", data)
    bpy.context.scene.collection.objects.link(obj)
    for other in bpy.context.selected_objects:
        other.select_set(False)
    obj.select_set(True)
    bpy.ops.export_scene.gltf(filepath=str(path), use_selection=True)
    bpy.data.objects.remove(obj)
