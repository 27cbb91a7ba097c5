"""The algebra of the surfel rasterizer that both its bodies share: surfels into cameras, and gradients the way back.

C++ for one surfel or for sixteen: `vr` is the type that a projection is computed in, `vf` that of its result, `vi` that of its
comparisons, and `ROOT ABS CEIL FLOOR MAX MIN NARROW` are what they are for these types.
"""

from mvgamba.kernels.rasterize_surfels import (
    ALPHA_MAX,
    COSINE_MIN,
    DISTORTION_SLOPE,
    HORIZON,
    TRANSMITTANCE_MIN,
)

RECORD = 20
VIEW = 16
"""Floats per camera: the nine of the rotation, three of the translation, fx, fy, cx, cy."""
TILE_SIZE = 16

NUMBERS = f"""
typedef long long wide;  // a long has 32 bits on Windows
constexpr int RECORD = {RECORD}, VIEW = {VIEW};
constexpr float ALPHA_MAX = {ALPHA_MAX}f, COSINE_MIN = {COSINE_MIN}f, HORIZON = {HORIZON}f;
constexpr float DISTORTION_SLOPE = {DISTORTION_SLOPE}f, TRANSMITTANCE_MIN = {TRANSMITTANCE_MIN}f;
"""

FRAME = r"""
struct camera_frame {
    vr nrm, qw, qx, qy, qz;       // length of the quaternion and its direction
    vr ax, ay, az, bx, by, bz, nx, ny, nz;  // axes in the world
    vr px, py, pz, aX, aY, aZ, bX, bY, bZ;  // centre and tangents in the camera
    vr facing, X, Y, su, sv, A00, A01, A10, A11, I00, I01, I10, I11, t0, t1;
    vr mx, my, mz;
    CUDA_CALLABLE inline void turn() {  // from what was read to directions
        nrm = ROOT(qw * qw + qx * qx + qy * qy + qz * qz);
        const vr inv = 1.0f / nrm;
        qw *= inv; qx *= inv; qy *= inv; qz *= inv;
        ax = 1.0f - 2.0f * (qy * qy + qz * qz); ay = 2.0f * (qx * qy + qw * qz); az = 2.0f * (qx * qz - qw * qy);
        bx = 2.0f * (qx * qy - qw * qz); by = 1.0f - 2.0f * (qx * qx + qz * qz); bz = 2.0f * (qy * qz + qw * qx);
        nx = 2.0f * (qx * qz + qw * qy); ny = 2.0f * (qy * qz - qw * qx); nz = 1.0f - 2.0f * (qx * qx + qy * qy);
    }
    CUDA_CALLABLE inline void see(const float* c) {
        px = c[0] * mx + c[1] * my + c[2] * mz + c[9];
        py = c[3] * mx + c[4] * my + c[5] * mz + c[10];
        pz = c[6] * mx + c[7] * my + c[8] * mz + c[11];
        aX = c[0] * ax + c[1] * ay + c[2] * az; aY = c[3] * ax + c[4] * ay + c[5] * az;
        aZ = c[6] * ax + c[7] * ay + c[8] * az;
        bX = c[0] * bx + c[1] * by + c[2] * bz; bY = c[3] * bx + c[4] * by + c[5] * bz;
        bZ = c[6] * bx + c[7] * by + c[8] * bz;
        facing = (c[0] * nx + c[1] * ny + c[2] * nz) * px + (c[3] * nx + c[4] * ny + c[5] * nz) * py
               + (c[6] * nx + c[7] * ny + c[8] * nz) * pz;
        X = px / pz; Y = py / pz;
        A00 = c[12] * (aX - X * aZ) * su; A01 = c[12] * (bX - X * bZ) * sv;
        A10 = c[13] * (aY - Y * aZ) * su; A11 = c[13] * (bY - Y * bZ) * sv;
        t0 = aZ * su; t1 = bZ * sv;
        const vr det = 1.0f / (c[12] * c[13] * su * sv * (facing / pz));  // of the 2 x 2 matrix A, without cancellation
        I00 = A11 * det; I01 = -A01 * det; I10 = -A10 * det; I11 = A00 * det;
    }
};
"""
"""A surfel and its place in a camera: read mx..mz, qw..qz, su, sv, then `turn()`, then `see(camera)` for each camera."""

PROJECT = r"""
const vf pz = NARROW(s.pz), facing = NARROW(s.facing), su = NARROW(s.su), sv = NARROW(s.sv);
const vf cosine = NARROW(ABS(s.facing)
    - COSINE_MIN * ROOT(s.px * s.px + s.py * s.py + s.pz * s.pz));
vf r[RECORD];
r[0] = NARROW(c[12] * s.X + c[14]); r[1] = NARROW(c[13] * s.Y + c[15]);
r[2] = NARROW(s.pz * s.I00); r[3] = NARROW(s.pz * s.I01); r[4] = NARROW(s.pz * s.I10); r[5] = NARROW(s.pz * s.I11);
r[6] = NARROW(-(s.t0 * s.I00 + s.t1 * s.I10)); r[7] = NARROW(-(s.t0 * s.I01 + s.t1 * s.I11));
r[8] = pz; r[9] = threshold; r[10] = opacity; r[11] = 1.0f / pz;
// A comparison with NaN is false, so what is not finite is not seen.
vi seen = (pz > job.near) & (pz < job.far) & (cosine > 0.0f) & (threshold > 0.0f) & (su > 0.0f) & (sv > 0.0f);
for (int j = 0; j < 8; ++j) seen &= r[j] * 0.0f == 0.0f;
const vf sign = facing > 0.0f ? vf{} - 1.0f : vf{} + 1.0f;
r[16] = NARROW(s.nx) * sign; r[17] = NARROW(s.ny) * sign; r[18] = NARROW(s.nz) * sign;
// The box around the image of the disc u^2 + v^2 <= threshold; none if the disc reaches behind the camera.
const vf t0 = NARROW(s.t0), t1 = NARROW(s.t1), A00 = NARROW(s.A00), A01 = NARROW(s.A01), A10 = NARROW(s.A10), A11 = NARROW(s.A11);
const vf d = threshold * (t0 * t0 + t1 * t1) - pz * pz;
const vi whole = d > -1e-3f * pz * pz;
const vf q = threshold / d;
const vf ox = q * (A00 * t0 + A01 * t1), oy = q * (A10 * t0 + A11 * t1);
const vf hx = ROOT(MAX(ox * ox - q * (A00 * A00 + A01 * A01), vf{}));
const vf hy = ROOT(MAX(oy * oy - q * (A10 * A10 + A11 * A11), vf{}));
const vf low = ROOT(0.5f * MAX(threshold, vf{}));
const float margin = 0.02f;  // of a pixel, for rounding
vf x0 = CEIL(r[0] + MIN(ox - hx, -low) - (0.5f + margin));
vf x1 = FLOOR(r[0] + MAX(ox + hx, low) - (0.5f - margin));
vf y0 = CEIL(r[1] + MIN(oy - hy, -low) - (0.5f + margin));
vf y1 = FLOOR(r[1] + MAX(oy + hy, low) - (0.5f - margin));
x0 = whole ? vf{} : MAX(x0, vf{}); y0 = whole ? vf{} : MAX(y0, vf{});
x1 = whole ? vf{} + (job.width - 1.0f) : MIN(x1, vf{} + (job.width - 1.0f));
y1 = whole ? vf{} + (job.height - 1.0f) : MIN(y1, vf{} + (job.height - 1.0f));
"""
"""From `s` (seen by `c`), `threshold` and `opacity`: the record `r`, whether it is `seen`, the box `x0 y0 x1 y1` of its pixels."""

UNPROJECT = r"""
    s.see(c);
    const vf U0 = s.pz * s.I00, U1 = s.pz * s.I01, V0 = s.pz * s.I10, V1 = s.pz * s.I11;
    const vf W0 = -(s.t0 * s.I00 + s.t1 * s.I10), W1 = -(s.t0 * s.I01 + s.t1 * s.I11);
    const vf dmx = -(U0 * g[2] + V0 * g[5] + W0 * g[8] + g[9]), dmy = -(U1 * g[2] + V1 * g[5] + W1 * g[8] + g[10]);
    // U, V = rows of depth A^-1;  W = -t A^-1
    vf dpz = g[15] + g[0] * s.I00 + g[1] * s.I01 + g[3] * s.I10 + g[4] * s.I11;
    const vf dI00 = s.pz * g[0] - s.t0 * g[6], dI01 = s.pz * g[1] - s.t0 * g[7];
    const vf dI10 = s.pz * g[3] - s.t1 * g[6], dI11 = s.pz * g[4] - s.t1 * g[7];
    const vf dt0 = -(g[6] * s.I00 + g[7] * s.I01), dt1 = -(g[6] * s.I10 + g[7] * s.I11);
    const vf e00 = s.I00 * dI00 + s.I10 * dI10, e01 = s.I00 * dI01 + s.I10 * dI11;
    const vf e10 = s.I01 * dI00 + s.I11 * dI10, e11 = s.I01 * dI01 + s.I11 * dI11;
    const vf fA00 = -c[12] * (e00 * s.I00 + e01 * s.I01), fA01 = -c[12] * (e00 * s.I10 + e01 * s.I11);
    const vf fA10 = -c[13] * (e10 * s.I00 + e11 * s.I01), fA11 = -c[13] * (e10 * s.I10 + e11 * s.I11);
    const vf dX = c[12] * dmx - (fA00 * s.aZ * s.su + fA01 * s.bZ * s.sv);
    const vf dY = c[13] * dmy - (fA10 * s.aZ * s.su + fA11 * s.bZ * s.sv);
    const vf daX = fA00 * s.su, daY = fA10 * s.su, daZ = dt0 * s.su - (daX * s.X + daY * s.Y);
    const vf dbX = fA01 * s.sv, dbY = fA11 * s.sv, dbZ = dt1 * s.sv - (dbX * s.X + dbY * s.Y);
    const vf dpx = dX / s.pz, dpy = dY / s.pz;
    dpz -= dpx * s.X + dpy * s.Y;
    const vf sign = s.facing > 0.0f ? vf{} - 1.0f : vf{} + 1.0f;
    // A surfel that is not seen may hold anything.
    dsu += seen ? fA00 * (s.aX - s.X * s.aZ) + fA10 * (s.aY - s.Y * s.aZ) + dt0 * s.aZ : vf{};
    dsv += seen ? fA01 * (s.bX - s.X * s.bZ) + fA11 * (s.bY - s.Y * s.bZ) + dt1 * s.bZ : vf{};
    dopacity += g[11];
    for (int j = 0; j < 3; ++j) {
        dm[j] += seen ? c[j] * dpx + c[3 + j] * dpy + c[6 + j] * dpz : vf{};
        da[j] += seen ? c[j] * daX + c[3 + j] * daY + c[6 + j] * daZ : vf{};
        db[j] += seen ? c[j] * dbX + c[3 + j] * dbY + c[6 + j] * dbZ : vf{};
        dn[j] += seen ? sign * g[16 + j] : vf{};
        dcolor[j] += g[12 + j];
    }
"""
"""From the summed row `g` of one camera: adds to the gradients of centre, axes, scales, opacity and colour where `seen`."""

QUATERNION = r"""
const vf w = s.qw, x = s.qx, y = s.qy, z = s.qz;
vf dw = 2.0f * (z * da[1] - y * da[2] - z * db[0] + x * db[2] + y * dn[0] - x * dn[1]);
vf dx = 2.0f * (y * da[1] + z * da[2] + y * db[0] - 2.0f * x * db[1] + w * db[2] + z * dn[0] - w * dn[1] - 2.0f * x * dn[2]);
vf dy = 2.0f * (-2.0f * y * da[0] + x * da[1] - w * da[2] + x * db[0] + z * db[2] + w * dn[0] + z * dn[1] - 2.0f * y * dn[2]);
vf dz = 2.0f * (-2.0f * z * da[0] + w * da[1] + x * da[2] - w * db[0] - 2.0f * z * db[1] + y * db[2] + x * dn[0] + y * dn[1]);
const vf along = dw * w + dx * x + dy * y + dz * z;  // the length of a quaternion has no effect
dw = (dw - along * w) / s.nrm; dx = (dx - along * x) / s.nrm; dy = (dy - along * y) / s.nrm; dz = (dz - along * z) / s.nrm;
"""
"""From the gradients of the axes to `dw dx dy dz`."""
