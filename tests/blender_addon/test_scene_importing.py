"""Files of the backend come in as Blender's own importer would bring them, only sooner; all others by that importer."""

import os

import numpy as np
import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender's Python")

from tests.blender_addon import glb_files  # noqa: E402

pytestmark = pytest.mark.blender

SKIPPED = {"session_uid", "users", "use_nodes"}
"""Properties that must differ; and one that Blender 5 warns of."""


@pytest.fixture
def importing(addon, scene):
    return addon.module("scene.importing")


@pytest.fixture
def mesh_file(addon):
    return addon.module("core.mesh_file")


@pytest.fixture
def both_ways(importing, mesh_file, monkeypatch):
    """Imports a file by our reader, and by Blender's importer."""

    def refuse(path):
        raise mesh_file.UnusualFile("the test wants it so")

    def forbidden(context, path):
        raise AssertionError(f"{path.name} went to Blender's importer")

    def both_ways(path, *, shade_smooth=True):
        with monkeypatch.context() as patch:
            patch.setattr(importing, "_imported", forbidden)
            ours = importing.import_mesh(bpy.context, path, shade_smooth=shade_smooth)
        with monkeypatch.context() as patch:
            patch.setattr(importing, "mesh_arrays", refuse)
            return ours, importing.import_mesh(bpy.context, path, shade_smooth=shade_smooth)

    return both_ways


def values_of(item):
    """All simple properties of a datablock or node, by name, without names that must differ."""
    table = {}
    for prop in item.bl_rna.properties:
        name = prop.identifier
        if name in SKIPPED or name.startswith("name"):
            continue
        value = getattr(item, name)
        if prop.type in ("BOOLEAN", "INT", "FLOAT"):
            table[name] = tuple(np.array(value).reshape(-1).tolist()) if getattr(prop, "is_array", False) else value
        elif prop.type in ("STRING", "ENUM"):
            table[name] = value
    return table


def tree_of(material):
    """All values of nodes and sockets, by their path, and links."""
    table = {}
    for node in material.node_tree.nodes:
        table |= {f"{node.bl_idname}.{name}": value for name, value in values_of(node).items()}
        for socket in node.inputs:
            path = f"{node.bl_idname}.{socket.identifier}"
            table |= {f"{path}.{name}": value for name, value in values_of(socket).items()}
    links = sorted(
        (link.from_node.bl_idname, link.from_socket.identifier, link.to_node.bl_idname, link.to_socket.identifier)
        for link in material.node_tree.links
    )
    return table, links


def faces_of(mesh):
    """Each face as its corners' places and UVs, from the smallest corner on, all in order."""
    found = []
    for face in mesh.polygons:
        corners = [
            (
                *mesh.vertices[mesh.loops[i].vertex_index].co,
                *(mesh.uv_layers[0].uv[i].vector if mesh.uv_layers else ()),
            )
            for i in face.loop_indices
        ]
        start = corners.index(min(corners))
        found.append((*corners[start:], *corners[:start]))
    return np.array(sorted(found))


def sharp_edges(mesh):
    return sorted(
        sorted(tuple(mesh.vertices[i].co) for i in edge.vertices) for edge in mesh.edges if edge.use_edge_sharp
    )


def compare_meshes(ours, theirs):
    assert (len(ours.vertices), len(ours.edges), len(ours.polygons)) == (
        len(theirs.vertices),
        len(theirs.edges),
        len(theirs.polygons),
    )
    np.testing.assert_array_equal(faces_of(ours), faces_of(theirs))
    assert sharp_edges(ours) == sharp_edges(theirs)
    assert [face.use_smooth for face in ours.polygons] == [face.use_smooth for face in theirs.polygons]
    assert not any(face.material_index for face in [*ours.polygons, *theirs.polygons])
    assert [layer.name for layer in ours.uv_layers] == [layer.name for layer in theirs.uv_layers]
    assert ours.has_custom_normals == theirs.has_custom_normals
    assert dict(ours.items()).keys() == dict(theirs.items()).keys()
    assert not ours.validate(verbose=True), "Blender found something to repair"


@pytest.mark.parametrize("shade_smooth", [True, False])
def test_a_file_of_the_backend_is_the_same_by_our_reader(both_ways, tmp_path, shade_smooth):
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture())
    ours, theirs = both_ways(path, shade_smooth=shade_smooth)
    compare_meshes(ours, theirs)
    assert all(len(edge_faces) == 2 for edge_faces in faces_at_edges(ours))  # closed
    assert values_of(ours) == values_of(theirs)
    assert ours.name == "surface" and not bpy.data.objects and not ours.users


def faces_at_edges(mesh):
    faces = {tuple(sorted(edge.vertices)): [] for edge in mesh.edges}
    for face in mesh.polygons:
        for key in face.edge_keys:
            faces[tuple(sorted(key))].append(face.index)
    return faces.values()


@pytest.mark.parametrize(
    "change",
    [
        None,
        lambda document: document["materials"][0].update(doubleSided=True),
        lambda document: document["materials"][0]["pbrMetallicRoughness"].pop("metallicFactor"),
        lambda document: document["textures"][0].pop("sampler"),
        lambda document: document["samplers"][0].update(wrapS=33648, wrapT=33648, minFilter=9728, magFilter=9728),
        lambda document: document["samplers"][0].pop("minFilter"),
        lambda document: document["samplers"][0].update(magFilter=9728),
    ],
)
def test_the_material_is_the_same_by_our_reader(both_ways, tmp_path, change):
    image = glb_files.picture(mode="RGBA")
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=image, change=change)
    ours, theirs = (mesh.materials[0] for mesh in both_ways(path))
    assert values_of(ours) == values_of(theirs)
    (our_values, our_links), (their_values, their_links) = tree_of(ours), tree_of(theirs)
    assert our_values == their_values
    assert our_links == their_links
    own, other = (
        next(node.image for node in material.node_tree.nodes if node.type == "TEX_IMAGE") for material in (ours, theirs)
    )
    assert own.packed_file.data == other.packed_file.data == image
    assert list(own.pixels) == list(other.pixels)
    assert values_of(own) == values_of(other)
    assert values_of(own.colorspace_settings) == values_of(other.colorspace_settings)


def test_a_picture_is_not_decoded_before_it_is_shown(importing, tmp_path):
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture())
    (image,) = importing.images_of(importing.import_mesh(bpy.context, path, shade_smooth=True))
    assert not image.has_data
    assert tuple(image.size) == (16, 16) and image.has_data


@pytest.mark.parametrize("seed", range(20))
def test_rough_meshes_are_the_same_by_our_reader(both_ways, tmp_path, seed):
    """Few places with many vertices: seams, slivers that collapse, faces that are there twice, vertices of no face."""
    rng = np.random.default_rng(seed)
    places = rng.integers(-3, 4, (int(rng.integers(8, 60)), 3)).astype(np.float32)
    points = places[rng.integers(0, len(places), 120)]
    points += (rng.random(points.shape) < 0.1) * np.float32(1e-8)  # the weld is wider
    faces = rng.integers(0, len(points), (90, 3))
    path = glb_files.write(tmp_path / "mesh.glb", points, faces)
    ours, theirs = both_ways(path)
    # Which of the vertices that are welded stays is left open.
    (our_faces, their_faces) = (
        {frozenset(tuple(np.round(mesh.vertices[i].co) + 0.0) for i in face.vertices) for face in mesh.polygons}
        for mesh in (ours, theirs)
    )
    assert len(our_faces) == len(ours.polygons) == len(theirs.polygons) and our_faces == their_faces
    assert not ours.validate(verbose=True)


def test_a_node_that_moves_its_mesh_moves_it_by_our_reader_too(both_ways, tmp_path):
    def move(document):
        document["nodes"] = [
            {"children": [1], "translation": [1.0, 2.0, 3.0], "scale": [2.0, 2.0, 2.0]},
            {"mesh": 0, "rotation": [0.5, 0.5, -0.5, 0.5], "translation": [0.0, 0.25, 0.0]},
        ]

    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), change=move)
    ours, theirs = both_ways(path)
    places = [np.array([vertex.co[:] for vertex in mesh.vertices], np.float64) for mesh in (ours, theirs)]
    apart = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1)
    assert len(places[0]) == len(places[1]) and apart.min(axis=0).max() < 1e-6 > apart.min(axis=1).max()


def test_what_was_prepared_is_what_is_imported(importing, mesh_file, tmp_path):
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture())
    unprepared = importing.import_mesh(bpy.context, path, shade_smooth=True)
    mesh_file.prepare([path])
    os.utime(mesh_file.prepared_path(path))
    prepared = importing.import_mesh(bpy.context, path, shade_smooth=True)
    compare_meshes(prepared, unprepared)
    assert tree_of(prepared.materials[0])[1] == tree_of(unprepared.materials[0])[1]


def test_a_file_that_was_replaced_is_read_anew(importing, mesh_file, tmp_path):
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball())
    mesh_file.prepare([path])
    points, faces, uvs = glb_files.ball()
    os.utime(glb_files.write(path, 2 * points, faces, uvs), ns=(1, 1))
    low, high = importing.mesh_bounds(importing.import_mesh(bpy.context, path, shade_smooth=True))
    assert max(high - low) == pytest.approx(4.0)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["meshes"][0].update(primitives=d["meshes"][0]["primitives"] * 2),
        lambda d: d["nodes"].append({"mesh": 0}) or d["scenes"][0]["nodes"].append(1),
        lambda d: d["materials"][0].update(alphaMode="BLEND"),
        lambda d: d["materials"][0]["pbrMetallicRoughness"].update(baseColorFactor=[1, 0.5, 0, 1]),
        lambda d: d["materials"][0].update(emissiveFactor=[1, 1, 0]),
        lambda d: d["meshes"][0]["primitives"][0].update(mode=5),
        lambda d: d["meshes"][0].update(extras={"a": 1}),
    ],
)
def test_files_of_others_still_come_in(importing, mesh_file, tmp_path, change):
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture(), change=change)
    with pytest.raises(mesh_file.UnusualFile):
        mesh_file.read_mesh(path)
    mesh_file.prepare([path])
    assert not mesh_file.prepared_path(path).exists()
    mesh = importing.import_mesh(bpy.context, path, shade_smooth=True)
    assert len(mesh.vertices) > 30 and mesh.uv_layers and importing.images_of(mesh) and not bpy.data.objects


def test_a_mesh_that_is_being_edited_can_be_looked_at(addon, importing, tmp_path):
    """Edit Mode keeps a mesh elsewhere; its own arrays are those of before."""
    result = addon.module("scene.result")
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture())
    obj = bpy.data.objects.new("thing", importing.import_mesh(bpy.context, path, shade_smooth=True))
    bpy.context.scene.collection.objects.link(obj)
    before, bounds = result.fingerprint(obj.data), importing.mesh_bounds(obj.data)
    bpy.context.view_layer.objects.active = obj
    obj.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    try:
        np.testing.assert_array_equal(importing.mesh_bounds(obj.data), bounds)
    finally:
        bpy.ops.object.mode_set(mode="OBJECT")
    assert result.fingerprint(obj.data) == before


def test_the_fingerprint_is_that_of_earlier_versions(addon, importing, tmp_path):
    """Files that were saved with it must not count as edited."""
    import hashlib

    result = addon.module("scene.result")
    path = glb_files.write(tmp_path / "mesh.glb", *glb_files.ball(), image=glb_files.picture())
    mesh = importing.import_mesh(bpy.context, path, shade_smooth=True)
    for changed in (False, True):
        if changed:
            mesh.materials.append(bpy.data.materials.new("second"))
            mesh.polygons[3].material_index = 1
        digest = hashlib.sha256(np.array([v.co[:] for v in mesh.vertices], np.float32).tobytes())
        digest.update(np.array([loop.vertex_index for loop in mesh.loops], np.int32).tobytes())
        digest.update(np.array([face.loop_start for face in mesh.polygons], np.int32).tobytes())
        digest.update(np.array([face.material_index for face in mesh.polygons], np.int32).tobytes())
        digest.update(np.array([item.vector[:] for item in mesh.uv_layers[0].uv], np.float32).tobytes())
        assert result.fingerprint(mesh) == digest.hexdigest()
