"""The reference against a slow evaluation of the definition, and its gradients against differences."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from mvgamba.cameras import c2w_to_w2c_opencv, intrinsics_from_fovy, orbit_cameras
from mvgamba.kernels.rasterize_surfels import DISTORTION_FAR, DISTORTION_NEAR, rasterize_surfels
from mvgamba.kernels.rasterize_surfels_reference import rasterize_surfels_reference


@pytest.fixture(autouse=True)
def _one_thread():
    """These tensors are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def definition(surfels, w2c, k, height, width, near=0.2):
    """One view in float64, pixel by pixel and surfel by surfel, ray against plane. Gives (H, W, 10)."""
    means, quats, scales, opacities, colors = surfels
    frames = Rotation.from_quat(quats[:, [1, 2, 3, 0]]).as_matrix()
    p = means @ w2c[:3, :3].T + w2c[:3, 3]
    image = np.zeros((height, width, 10))
    for row in range(height):
        for column in range(width):
            ray = np.array([(column + 0.5 - k[0, 2]) / k[0, 0], (row + 0.5 - k[1, 2]) / k[1, 1], 1.0])
            light, pairs, median = 1.0, [], 0.0
            for i in np.argsort(p[:, 2], kind="stable"):
                axes = w2c[:3, :3] @ frames[i]
                normal = axes[:, 2]
                if p[i, 2] <= near or abs(normal @ p[i]) <= 1e-3 * np.linalg.norm(p[i]):
                    continue
                z = (normal @ p[i]) / (normal @ ray)
                offset = z * ray - p[i]
                rho3 = sum((offset @ axes[:, j] / scales[i, j]) ** 2 for j in range(2))
                centre = k[:2, :2].diagonal() * p[i, :2] / p[i, 2] + k[:2, 2]
                rho2 = 2 * ((np.array([column + 0.5, row + 0.5]) - centre) ** 2).sum()
                if z < near or rho3 > rho2:
                    rho3, z = rho2, p[i, 2]
                alpha = min(0.99, opacities[i] * np.exp(-0.5 * rho3))
                if alpha < 1 / 255:
                    continue
                if light * (1 - alpha) < 1e-4:
                    break
                weight = alpha * light
                m = DISTORTION_FAR / (DISTORTION_FAR - DISTORTION_NEAR) * (1 - DISTORTION_NEAR / z)
                if light > 0.5:
                    median = z
                facing = frames[i][:, 2] * -np.sign(normal @ p[i])
                image[row, column, :8] += weight * np.array([*colors[i], 1.0, z, *facing])
                image[row, column, 9] += sum(weight * w * (m - other) ** 2 for w, other in pairs)
                pairs.append((weight, m))
                light *= 1 - alpha
            image[row, column, 8] = median
    return image


def random_scene(n: int, seed: int, size: float):
    g = torch.Generator().manual_seed(seed)
    means = (torch.rand(n, 3, generator=g, dtype=torch.float64) - 0.5) * 0.8
    quats = torch.randn(n, 4, generator=g, dtype=torch.float64)
    scales = size * (0.4 + torch.rand(n, 2, generator=g, dtype=torch.float64))
    opacities = 0.1 + 0.9 * torch.rand(n, generator=g, dtype=torch.float64)
    return means, quats, scales, opacities, torch.rand(n, 3, generator=g, dtype=torch.float64)


def odd_cameras(views: int, height: int, width: int):
    """Neither square pixels nor a centred principal point."""
    k = intrinsics_from_fovy(0.8, height, width)
    k[0, 0] *= 1.2
    k[0, 2] += 2.3
    k[1, 2] -= 1.7
    cameras = orbit_cameras(
        [0.3 + i for i in range(views)], [0.4] * views, radius=1.5, fovy=0.8, height=height, width=width
    )
    return c2w_to_w2c_opencv(cameras.c2w), k.expand(views, 3, 3)


@pytest.mark.parametrize("size", [0.15, 0.01], ids=["large", "below a pixel"])
def test_reference_is_the_definition(size):
    surfels = random_scene(25, 1, size)
    w2c, k = odd_cameras(2, 9, 13)
    planes = rasterize_surfels_reference(*surfels, w2c, k, height=9, width=13)
    got = torch.cat([planes.rgb, planes.alpha, planes.depth, planes.normals, planes.median_depth, planes.distortion], 1)
    for view in range(2):
        want = definition([t.numpy() for t in surfels], w2c[view].numpy(), k[view].numpy(), 9, 13)
        assert want[..., 3].max() > 0.3
        np.testing.assert_allclose(got[view].permute(1, 2, 0).numpy(), want, atol=1e-10)


def test_gradients_of_reference_agree_with_differences():
    # Five large discs on 8 x 8 pixels with a moderate opacity: no pixel changes sides at a threshold within the step.
    means, quats, scales, opacities, colors = random_scene(5, 4, 0.4)
    opacities = 0.2 + 0.3 * opacities
    w2c, k = odd_cameras(1, 8, 8)
    probe = torch.randn(10, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(*surfels):
        planes = rasterize_surfels_reference(*surfels, w2c, k, height=8, width=8)
        return torch.stack(
            [
                (plane[0] * part).sum()
                for plane, part in zip(
                    (
                        planes.rgb,
                        planes.alpha,
                        planes.depth,
                        planes.normals,
                        planes.median_depth,
                        100 * planes.distortion,
                    ),
                    probe.split([3, 1, 1, 3, 1, 1]),
                    strict=True,
                )
            ]
        )

    inputs = [t.clone().requires_grad_() for t in (means, quats, scales, opacities, colors)]
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-5, rtol=1e-4)


def test_chunks_of_pixels_change_nothing(monkeypatch):
    surfels = [t.requires_grad_() for t in random_scene(20, 2, 0.1)]
    w2c, k = odd_cameras(1, 12, 10)
    whole = rasterize_surfels_reference(*surfels, w2c, k, height=12, width=10)
    monkeypatch.setattr("mvgamba.kernels.rasterize_surfels_reference.PAIRS_PER_CHUNK", 20 * 7)
    parts = rasterize_surfels_reference(*surfels, w2c, k, height=12, width=10)
    torch.testing.assert_close(parts.rgb, whole.rgb)
    for a, b in zip(
        torch.autograd.grad(whole.depth.sum(), surfels[:4]),
        torch.autograd.grad(parts.depth.sum(), surfels[:4]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_distortion_survives_single_precision():
    surfels = random_scene(40, 3, 0.1)
    w2c, k = odd_cameras(1, 16, 16)
    exact = rasterize_surfels_reference(*surfels, w2c, k, height=16, width=16).distortion
    with rasterize_surfels.use("reference"):
        rounded = rasterize_surfels(
            *(t.float() for t in surfels), w2c.float(), k.float(), height=16, width=16
        ).distortion
    assert exact.max() > 1e-4
    torch.testing.assert_close(rounded.double(), exact, atol=2e-7, rtol=1e-3)
