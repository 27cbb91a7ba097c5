"""Depth maps fused into a truncated signed distance field, after Curless and Levoy 1996.

    from mvgamba.kernels.fuse_tsdf import fuse_tsdf

    field = fuse_tsdf(depth, weights, w2c, intrinsics, origin, spacing, (nx, ny, nz), truncation=5 * spacing)

- `depth` (V, H, W) along the view axis; 0 where a pixel meets no surface. `weights` (V, H, W): how much a pixel counts.
  A pixel with weight and without depth is background: all along its ray space is free. Weight 0 says nothing.
- `w2c`, `intrinsics`, `origin`, `spacing`, `shape`: as in `carve_silhouettes`.
- `truncation`: distances in front of a surface are cut there, and count a tenth there: a ray that passes at a distance
  knows that a point is free, but must not draw the surface away from where nearer votes put it. `behind`: a pixel says nothing farther behind its surface
  than this, and less and less on the way (half of `truncation` unless told): so a thin plate keeps its two sides.
- `hull` (nx, ny, nz): a field, positive inside, that the result is cut with, value by value. Saves the work outside.

Pictures may have any floating type and strides. A pixel whose depth or weight is not finite, or whose weight is negative, says nothing.

Gives (nx, ny, nz) float32 in world units within plus or minus `truncation`, **positive inside** as with
`carve_silhouettes`. A point that is always hidden is inside (+truncation). A point in no picture at all is outside, or
what `hull` says.
"""

from mvgamba.kernels.kernel import Kernel, Variant, always
from mvgamba.kernels.warp_runtime import why_not_on_cpu, why_not_on_cuda

fuse_tsdf = Kernel(
    "fuse_tsdf",
    [
        Variant("warp-cpu", "mvgamba.kernels.fuse_tsdf_warp:fuse_tsdf_warp", why_not_on_cpu),
        Variant("warp-cuda", "mvgamba.kernels.fuse_tsdf_cuda:fuse_tsdf_cuda", why_not_on_cuda),
        Variant("reference", "mvgamba.kernels.fuse_tsdf_reference:fuse_tsdf_reference", always),
    ],
)
