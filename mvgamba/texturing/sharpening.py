"""A texture made to look like the views when it is rendered: what blending blurred comes back.

Rendering a fixed mesh with a texture is linear in the texture: a pixel is the mean of a few samples, each of them a mean of
four texels. With that matrix A, the pixels b and weights W, the update x += (A'W(b - Ax)) / (A'W1) is SIRT (Gilbert 1972): a
few rounds sharpen, many would fit noise and whatever is wrong with the geometry.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_matrix

from mvgamba.texturing.texels import Sight
from mvgamba.texturing.unwrap import UnwrappedMesh
from mvgamba.types import TexturedMesh

OPAQUE = 0.99


def sharpen(
    texture: Float[np.ndarray, "T T 3"], mesh: UnwrappedMesh, sight: Sight, *, rounds: int, power: float
) -> Float[np.ndarray, "T T 3"]:
    """The texture after `rounds` updates towards the views.

    Only pixels that are opaque and wholly covered by the mesh count, by the cosine to their view to the `power`.
    """
    size = texture.shape[0]
    matrices: list[csr_matrix] = []
    targets: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    for view in range(sight.views.num_views):
        part = pixel_rows(mesh, sight, view, size, power)
        if part is not None:
            matrices.append(part[0])
            targets.append(part[1])
            weights.append(part[2])
    if not matrices:
        return texture
    flat = texture.reshape(-1, 3).astype(np.float32).copy()
    transposed = [(m.T, w[:, None]) for m, w in zip(matrices, weights, strict=True)]
    reach = sum((t @ w for t, w in transposed), start=np.zeros((len(flat), 1), np.float32))
    scale = np.where(reach > 1e-6, 1.0 / np.maximum(reach, 1e-6), 0.0).astype(np.float32)
    for _ in range(rounds):
        step = np.zeros_like(flat)
        for matrix, (transpose, w), target in zip(matrices, transposed, targets, strict=True):
            step += transpose @ (w * (target - matrix @ flat))
        flat = np.clip(flat + scale * step, 0.0, 1.0)
    return flat.reshape(texture.shape)


def pixel_rows(
    mesh: UnwrappedMesh | TexturedMesh, sight: Sight, view: int, size: int, power: float
) -> tuple[csr_matrix, np.ndarray, np.ndarray] | None:
    """Rows for the pixels of a view that can be used (as means of texels), their colours and weights; None if there is none."""
    views = sight.views
    height, width = views.cameras.height, views.cameras.width
    factor = sight.cameras.height // height

    def by_pixel(plane: torch.Tensor) -> torch.Tensor:
        """(h, w, ...) -> (H W, samples, ...)"""
        rest = plane.shape[2:]
        blocks = plane.reshape(height, factor, width, factor, *rest).transpose(1, 2)
        return blocks.reshape(height * width, factor * factor, *rest)

    ids = by_pixel(sight.face_ids[view])
    opaque = views.alpha[view].reshape(-1) >= OPAQUE
    trust = by_pixel(sight.trust[view]).amin(dim=1)
    pixels = torch.nonzero((ids >= 0).all(dim=1) & opaque & (trust >= 1))[:, 0]
    if len(pixels) == 0:
        return None
    faces = ids[pixels].long()
    bary = by_pixel(sight.barycentrics[view])[pixels]
    corners = torch.from_numpy(mesh.faces)[faces]
    uv = torch.from_numpy(mesh.uvs).float()
    at = (uv[corners] * bary[..., None]).sum(-2) * size - 0.5
    normal = (torch.from_numpy(mesh.normals).float()[corners[:, 0]] * bary[:, 0, :, None]).sum(-2)
    point = (torch.from_numpy(mesh.vertices).float()[corners[:, 0]] * bary[:, 0, :, None]).sum(-2)
    ray = torch.nn.functional.normalize(views.cameras.c2w[view, :3, 3].float() - point, dim=-1)
    cosine = (torch.nn.functional.normalize(normal, dim=-1) * ray).sum(-1).clamp_min(0.0)

    low = at.floor()
    part = at - low
    columns, values = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            column = (low[..., 0] + dx).clamp(0, size - 1)
            row = (low[..., 1] + dy).clamp(0, size - 1)
            columns.append((row * size + column).int())
            values.append((part[..., 0] - 1 + dx).abs() * (part[..., 1] - 1 + dy).abs() / factor**2)
    taps = 4 * factor**2
    matrix = csr_matrix(
        (
            torch.stack(values, dim=-1).reshape(-1).numpy(),
            torch.stack(columns, dim=-1).reshape(-1).numpy(),
            np.arange(len(pixels) + 1, dtype=np.int32) * taps,
        ),
        shape=(len(pixels), size * size),
    )
    rgb = views.rgb[view].reshape(3, -1).T[pixels].float().numpy()
    return matrix, rgb, (cosine**power).numpy()
