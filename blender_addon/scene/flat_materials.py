"""Materials without light: temporary copies in which every surface emits its base colour, or its depth.

A copy keeps all nodes that lead to a colour (textures, attributes, groups, mixes by alpha) and changes only the shaders
at the end, so whatever the user built is seen as it is. The diffuse-colour pass of Cycles would be shorter, but is black
for metal.
"""

import enum

import bpy


class Emit(enum.Enum):
    """What a flat material sends to the camera."""

    BASE_COLOR = enum.auto()
    DEPTH = enum.auto()
    """Distance along the view axis in scene units."""
    NOTHING = enum.auto()
    """The material stays as it is; it is copied all the same, so that nothing of the user's is touched."""


DEFAULT_COLOR = (0.8, 0.8, 0.8, 1.0)
"""Linear; what Blender shows where there is no material."""

_COLOR_SOCKETS = ("Base Color", "Color", "Reflectivity")
_NOT_SURFACES = frozenset({"BSDF_TRANSPARENT", "HOLDOUT"})


class FlatMaterials:
    """Makes flat copies on demand; all that is made is appended to `created`."""

    def __init__(self, emit: Emit, created: list[bpy.types.ID]) -> None:
        self._emit = emit
        self._created = created
        self._materials: dict[int, bpy.types.Material] = {}
        self._groups: dict[int, bpy.types.NodeTree] = {}
        self._default: bpy.types.Material | None = None

    def of(self, material: bpy.types.Material | None) -> bpy.types.Material:
        """The flat twin of a material, or of the default surface."""
        if material is None:
            if self._default is None:
                self._default = self._plain("MVGamba Default", DEFAULT_COLOR)
            return self._default
        key = material.session_uid
        if key not in self._materials:
            if _uses_nodes(material):
                self._materials[key] = self._copy(material)
            else:
                self._materials[key] = self._plain(material.name, tuple(material.diffuse_color))
        return self._materials[key]

    def _plain(self, name: str, color: tuple[float, ...]) -> bpy.types.Material:
        material = bpy.data.materials.new(name)
        self._created.append(material)
        if bpy.app.version < (5, 0, 0):
            material.use_nodes = True
        tree = material.node_tree
        tree.nodes.clear()
        output = tree.nodes.new("ShaderNodeOutputMaterial")
        kind = "ShaderNodeBsdfPrincipled" if self._emit is Emit.NOTHING else "ShaderNodeEmission"
        shader = tree.nodes.new(kind)
        (_color_socket(shader) or shader.inputs[0]).default_value = (*color[:3], 1.0)
        tree.links.new(shader.outputs[0], output.inputs["Surface"])
        if self._emit is Emit.DEPTH:
            self._link_depth(tree, shader)
        if self._emit is not Emit.NOTHING:
            _never_a_lamp(material)
        return material

    def _copy(self, material: bpy.types.Material) -> bpy.types.Material:
        flat = material.copy()
        self._created.append(flat)
        self._flatten(flat.node_tree)
        if self._emit is not Emit.NOTHING:
            _never_a_lamp(flat)
        return flat

    def _flatten(self, tree: bpy.types.NodeTree) -> None:
        for node in list(tree.nodes):
            if node.type == "GROUP" and node.node_tree is not None:
                node.node_tree = self._flat_group(node.node_tree)
            elif self._emit is Emit.NOTHING:
                continue
            elif node.type == "OUTPUT_MATERIAL":
                for link in list(node.inputs["Volume"].links):
                    tree.links.remove(link)
            elif node.type == "EMISSION":
                self._flatten_emission(tree, node)
            elif _is_surface(node):
                self._replace(tree, node)
        # Sums of shaders would add colours of which each is the base colour already: the first stands for all.
        for node in list(tree.nodes):
            if node.type == "ADD_SHADER" and self._emit is not Emit.NOTHING:
                first = next((socket.links[0].from_socket for socket in node.inputs if socket.is_linked), None)
                if first is not None:
                    _reroute(tree, node.outputs[0], first)

    def _flat_group(self, group: bpy.types.NodeTree) -> bpy.types.NodeTree:
        key = group.session_uid
        if key not in self._groups:
            flat = group.copy()
            self._created.append(flat)
            self._groups[key] = flat
            self._flatten(flat)
        return self._groups[key]

    def _replace(self, tree: bpy.types.NodeTree, node: bpy.types.Node) -> None:
        emission = tree.nodes.new("ShaderNodeEmission")
        if self._emit is Emit.DEPTH:
            self._link_depth(tree, emission)
        else:
            _copy_input(tree, _color_socket(node), emission.inputs["Color"])
        shader = emission.outputs[0]
        alpha = node.inputs.get("Alpha")
        if alpha is not None and (alpha.is_linked or alpha.default_value < 1.0):
            transparent = tree.nodes.new("ShaderNodeBsdfTransparent")
            mix = tree.nodes.new("ShaderNodeMixShader")
            _copy_input(tree, alpha, mix.inputs[0])
            tree.links.new(transparent.outputs[0], mix.inputs[1])
            tree.links.new(shader, mix.inputs[2])
            shader = mix.outputs[0]
        _reroute(tree, node.outputs[0], shader)

    def _flatten_emission(self, tree: bpy.types.NodeTree, node: bpy.types.Node) -> None:
        for link in list(node.inputs["Strength"].links):
            tree.links.remove(link)
        node.inputs["Strength"].default_value = 1.0
        if self._emit is Emit.DEPTH:
            self._link_depth(tree, node)

    def _link_depth(self, tree: bpy.types.NodeTree, emission: bpy.types.Node) -> None:
        camera = tree.nodes.new("ShaderNodeCameraData")
        tree.links.new(camera.outputs["View Z Depth"], emission.inputs["Color"])


def _uses_nodes(material: bpy.types.Material) -> bool:
    # From 5.0 on every material has nodes, and asking warns.
    return material.node_tree is not None and (bpy.app.version >= (5, 0, 0) or material.use_nodes)


def _never_a_lamp(material: bpy.types.Material) -> None:
    material.cycles.emission_sampling = "NONE"


def _is_surface(node: bpy.types.Node) -> bool:
    if node.type in _NOT_SURFACES or not node.outputs or node.outputs[0].type != "SHADER":
        return False
    return node.type.startswith("BSDF_") or node.type in ("SUBSURFACE_SCATTERING", "EEVEE_SPECULAR")


def _color_socket(node: bpy.types.Node) -> bpy.types.NodeSocket | None:
    return next((node.inputs[name] for name in _COLOR_SOCKETS if name in node.inputs), None)


def _copy_input(tree: bpy.types.NodeTree, source: bpy.types.NodeSocket | None, target: bpy.types.NodeSocket) -> None:
    if source is None:
        target.default_value = DEFAULT_COLOR
    elif source.is_linked:
        tree.links.new(source.links[0].from_socket, target)
    else:
        target.default_value = source.default_value


def _reroute(tree: bpy.types.NodeTree, old: bpy.types.NodeSocket, new: bpy.types.NodeSocket) -> None:
    for link in list(old.links):
        target = link.to_socket
        tree.links.remove(link)
        tree.links.new(new, target)
