"""The visual hull as a field: how deep inside all silhouettes each point of a grid lies.

    from mvgamba.kernels.carve_silhouettes import carve_silhouettes

    field = carve_silhouettes(silhouettes, w2c, intrinsics, origin, spacing, (nx, ny, nz), outside_frame="ignore")

- `silhouettes` (V, H, W): signed distance to the outline in pixels, positive inside (`signed_distance_2d`); its slope
  must stay below 1.5 per pixel, for blocks of the grid are skipped by that bound.
- `w2c` (V, 4, 4): world to camera in the OpenCV frame. `intrinsics` (V, 3, 3), in pixels, without skew.
- `origin` (3,): the position of grid point (0, 0, 0); `spacing`: distance of neighbours; `shape`: points per axis.
- `outside_frame`: `"empty"`: nothing is outside a picture or behind a camera, so each view carves that away;
  `"ignore"`: a view has no say there. A point that no view has a say in is `+inf` (never carved).
- `truncation`: values are not followed below `-truncation`; eight spacings unless told.

Pictures may have any floating type and strides; a distance that is not finite is refused.

Gives (nx, ny, nz) float32 in world units, positive inside the hull: the least over the views of the silhouette's
distance at the projection, times depth over focal length.
"""

from mvgamba.kernels.kernel import Kernel, Variant, always
from mvgamba.kernels.warp_runtime import why_not_on_cpu, why_not_on_cuda

carve_silhouettes = Kernel(
    "carve_silhouettes",
    [
        Variant("warp-cpu", "mvgamba.kernels.carve_silhouettes_warp:carve_silhouettes_warp", why_not_on_cpu),
        Variant("warp-cuda", "mvgamba.kernels.carve_silhouettes_cuda:carve_silhouettes_cuda", why_not_on_cuda),
        Variant("reference", "mvgamba.kernels.carve_silhouettes_reference:carve_silhouettes_reference", always),
    ],
)
