"""The C++ of the surfel rasterizer for CPUs: 16 lanes at a time in clang's vector extensions, no header, no library.

Warp's bundled clang compiles these bodies: here projecting, sorting and the way back, in `rasterize_surfels_blend_snippets`
the blending. Lanes are 16 surfels while projecting and a block of 4 x 4 pixels while blending;
16 blocks make a tile of 16 x 16. Where a machine has no 512-bit registers, clang splits the vectors.

A record is what a surfel is to one camera, `RECORD` floats; with (dx, dy) the offset of a pixel from the projected centre
and slope = 1 + W.(dx, dy): u = U.(dx, dy) / slope, v = V.(dx, dy) / slope, z = depth / slope.

    0 1 centre   2 3 U   4 5 V   6 7 W   8 depth   9 threshold of rho   10 opacity   11 1 / depth
    12 13 14 colour      16 17 18 world normal, towards the camera

A gradient row is what one tile says about one surfel, `RECORD` floats, to be summed over tiles and views:

    0 1 2 sum of du (dx, dy, 1)   3 4 5 of dv   6 7 8 of dslope, where u and v are numerators
    9 10 of the low-pass centre   11 opacity    12 13 14 colour    15 depth    16 17 18 normal
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

CONSTANTS = f"""
#pragma clang fp contract(on)
typedef long long wide;  // a long has 32 bits on Windows
constexpr int RECORD = {RECORD}, VIEW = {VIEW};
constexpr float ALPHA_MAX = {ALPHA_MAX}f, COSINE_MIN = {COSINE_MIN}f, HORIZON = {HORIZON}f;
constexpr float DISTORTION_SLOPE = {DISTORTION_SLOPE}f, TRANSMITTANCE_MIN = {TRANSMITTANCE_MIN}f;
"""

VECTORS = (
    CONSTANTS
    + r"""
typedef float vf __attribute__((vector_size(64)));
typedef float vf_unaligned __attribute__((vector_size(64), aligned(4)));
typedef int vi __attribute__((vector_size(64)));
struct simd {
    static inline bool any(vi mask) { return __builtin_reduce_or(mask) != 0; }
    static inline vf sqrt(vf x) { return __builtin_elementwise_sqrt(x); }
    static inline vf max(vf a, vf b) { return __builtin_elementwise_max(a, b); }
    static inline vf min(vf a, vf b) { return __builtin_elementwise_min(a, b); }
    // exp(x) for x in [-80, 0]; relative error 2e-7.
    static inline vf exp(vf x) {
        const vf t = x * 1.44269504088896f;
        const vf whole = __builtin_elementwise_roundeven(t);
        const vf f = t - whole;
        vf p = f * 1.535336188319500e-4f + 1.339887440266574e-3f;
        p = p * f + 9.618437357674640e-3f;
        p = p * f + 5.550332471162809e-2f;
        p = p * f + 2.402264791363012e-1f;
        p = p * f + 6.931472028550421e-1f;
        p = p * f + 1.0f;
        return (vf)((vi)p + (__builtin_convertvector(whole, vi) << 23));
    }
    // Sums of neighbours of a, then of b.
    static inline vf fold(vf a, vf b) {
        return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
             + __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    }
    static inline vf fold4(vf a, vf b, vf c, vf d) { return fold(fold(a, b), fold(c, d)); }
};
"""
)

CAMERA = r"""
struct camera_frame {
    vr nrm, qw, qx, qy, qz;       // length of the quaternion and its direction
    vr ax, ay, az, bx, by, bz, nx, ny, nz;  // axes in the world
    vr px, py, pz, aX, aY, aZ, bX, bY, bZ;  // centre and tangents in the camera
    vr facing, X, Y, su, sv, A00, A01, A10, A11, I00, I01, I10, I11, t0, t1;
    vr mx, my, mz;
    inline void gather(const float* means, const float* quats, const float* scales, int begin, int count) {
        for (int l = 0; l < 16; ++l) {
            const wide i = begin + l < count ? begin + l : count - 1;
            mx[l] = means[3 * i]; my[l] = means[3 * i + 1]; mz[l] = means[3 * i + 2];
            qw[l] = quats[4 * i]; qx[l] = quats[4 * i + 1]; qy[l] = quats[4 * i + 2]; qz[l] = quats[4 * i + 3];
            su[l] = scales[2 * i]; sv[l] = scales[2 * i + 1];
        }
        nrm = __builtin_elementwise_sqrt(qw * qw + qx * qx + qy * qy + qz * qz);
        const vr inv = 1.0f / nrm;
        qw *= inv; qx *= inv; qy *= inv; qz *= inv;
        ax = 1.0f - 2.0f * (qy * qy + qz * qz); ay = 2.0f * (qx * qy + qw * qz); az = 2.0f * (qx * qz - qw * qy);
        bx = 2.0f * (qx * qy - qw * qz); by = 1.0f - 2.0f * (qx * qx + qz * qz); bz = 2.0f * (qy * qz + qw * qx);
        nx = 2.0f * (qx * qz + qw * qy); ny = 2.0f * (qy * qz - qw * qx); nz = 1.0f - 2.0f * (qx * qx + qy * qy);
    }
    inline void see(const float* c) {
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

PROJECT = (
    VECTORS
    + "typedef double vr __attribute__((vector_size(128)));"  # for the digits of discs at grazing incidence
    + CAMERA
    + r"""
const int groups = (job.num_surfels + 15) / 16, view = item / groups, begin = (item % groups) * 16;
const wide base = (wide)((job.first_view + view) / job.views_per_scene) * job.num_surfels;
const float* colors = job.colors.data + 3 * base;
const float* c = job.views.data + VIEW * view;
camera_frame s;
s.gather(job.means.data + 3 * base, job.quats.data + 4 * base, job.scales.data + 2 * base, begin, job.num_surfels);
s.see(c);
vf threshold, opacity;
for (int l = 0; l < 16; ++l) {
    const wide i = begin + l < job.num_surfels ? begin + l : job.num_surfels - 1;
    threshold[l] = job.thresholds.data[base + i]; opacity[l] = job.opacities.data[base + i];
}
auto f = [](vr x) { return __builtin_convertvector(x, vf); };
const vf pz = f(s.pz), facing = f(s.facing), su = f(s.su), sv = f(s.sv);
const vf cosine = f(__builtin_elementwise_abs(s.facing)
    - COSINE_MIN * __builtin_elementwise_sqrt(s.px * s.px + s.py * s.py + s.pz * s.pz));
// A comparison with NaN is false, so what is not finite is not seen.
vf r[RECORD];
r[0] = f(c[12] * s.X + c[14]); r[1] = f(c[13] * s.Y + c[15]);
r[2] = f(s.pz * s.I00); r[3] = f(s.pz * s.I01); r[4] = f(s.pz * s.I10); r[5] = f(s.pz * s.I11);
r[6] = f(-(s.t0 * s.I00 + s.t1 * s.I10)); r[7] = f(-(s.t0 * s.I01 + s.t1 * s.I11));
r[8] = pz; r[9] = threshold; r[10] = opacity; r[11] = 1.0f / pz;
// A comparison with NaN is false, so what is not finite is not seen.
vi seen = (pz > job.near) & (pz < job.far) & (cosine > 0.0f) & (threshold > 0.0f) & (su > 0.0f) & (sv > 0.0f);
for (int j = 0; j < 8; ++j) seen &= r[j] * 0.0f == 0.0f;
const vf sign = facing > 0.0f ? vf{} - 1.0f : vf{} + 1.0f;
r[16] = f(s.nx) * sign; r[17] = f(s.ny) * sign; r[18] = f(s.nz) * sign;
// The box around the image of the disc u^2 + v^2 <= threshold; none if the disc reaches behind the camera.
const vf t0 = f(s.t0), t1 = f(s.t1), A00 = f(s.A00), A01 = f(s.A01), A10 = f(s.A10), A11 = f(s.A11);
const vf d = threshold * (t0 * t0 + t1 * t1) - pz * pz;
const vi whole = d > -1e-3f * pz * pz;
const vf q = threshold / d;
const vf ox = q * (A00 * t0 + A01 * t1), oy = q * (A10 * t0 + A11 * t1);
const vf hx = simd::sqrt(simd::max(ox * ox - q * (A00 * A00 + A01 * A01), vf{}));
const vf hy = simd::sqrt(simd::max(oy * oy - q * (A10 * A10 + A11 * A11), vf{}));
const vf low = simd::sqrt(0.5f * simd::max(threshold, vf{}));
const float margin = 0.02f;  // of a pixel, for rounding
vf x0 = __builtin_elementwise_ceil(r[0] + simd::min(ox - hx, -low) - (0.5f + margin));
vf x1 = __builtin_elementwise_floor(r[0] + simd::max(ox + hx, low) - (0.5f - margin));
vf y0 = __builtin_elementwise_ceil(r[1] + simd::min(oy - hy, -low) - (0.5f + margin));
vf y1 = __builtin_elementwise_floor(r[1] + simd::max(oy + hy, low) - (0.5f - margin));
x0 = whole ? vf{} : simd::max(x0, vf{}); y0 = whole ? vf{} : simd::max(y0, vf{});
x1 = whole ? vf{} + (job.width - 1.0f) : simd::min(x1, vf{} + (job.width - 1.0f));
y1 = whole ? vf{} + (job.height - 1.0f) : simd::min(y1, vf{} + (job.height - 1.0f));
for (int l = 0; l < 16 && begin + l < job.num_surfels; ++l) {
    const wide i = begin + l, k = (wide)view * job.num_surfels + i;
    int tiles = 0;
    if (seen[l] && x0[l] <= x1[l] && y0[l] <= y1[l]) {
        short* box = job.boxes.data + 4 * k;
        box[0] = (short)x0[l]; box[1] = (short)y0[l]; box[2] = (short)x1[l]; box[3] = (short)y1[l];
        tiles = ((box[2] >> 4) - (box[0] >> 4) + 1) * ((box[3] >> 4) - (box[1] >> 4) + 1);
        float* record = job.records.data + RECORD * k;
        for (int j = 0; j < 12; ++j) record[j] = r[j][l];
        for (int j = 0; j < 3; ++j) { record[12 + j] = colors[3 * i + j]; record[16 + j] = r[16 + j][l]; }
    }
    job.num_tiles.data[k] = tiles;
}
"""
)
"""Projects 16 surfels into one view: records, boxes of pixels (x0 y0 x1 y1, inclusive), number of tiles touched (0: not seen)."""

SORT = (
    CONSTANTS
    + r"""
const wide first = (wide)view * job.num_surfels;
int* counts = job.tile_begin.data + (wide)view * (job.tiles_x * job.tiles_y + 1);
int* a = job.order.data + first;
int* b = job.scratch.data + first;
int n = 0, total = 0;
for (int t = 0; t <= job.tiles_x * job.tiles_y; ++t) counts[t] = 0;
int histogram[3][2048];
for (int i = 0; i < 2048; ++i) histogram[0][i] = histogram[1][i] = histogram[2][i] = 0;
union bits { float f; unsigned u; };
for (int i = 0; i < job.num_surfels; ++i) {
    job.row_begin.data[first + i] = total;
    if (job.num_tiles.data[first + i] == 0) continue;
    total += job.num_tiles.data[first + i];
    a[n++] = i;
    bits key; key.f = job.records.data[RECORD * (first + i) + 8];
    ++histogram[0][key.u & 2047]; ++histogram[1][(key.u >> 11) & 2047]; ++histogram[2][key.u >> 22];
    const short* box = job.boxes.data + 4 * (first + i);
    for (int y = box[1] >> 4; y <= box[3] >> 4; ++y)
        for (int x = box[0] >> 4; x <= box[2] >> 4; ++x) ++counts[y * job.tiles_x + x];
}
for (int pass = 0; pass < 3; ++pass) {  // stable radix sort by depth, which is positive
    int sum = 0;
    for (int i = 0; i < 2048; ++i) { const int c = histogram[pass][i]; histogram[pass][i] = sum; sum += c; }
    for (int i = 0; i < n; ++i) {
        bits key; key.f = job.records.data[RECORD * (first + a[i]) + 8];
        b[histogram[pass][(key.u >> (11 * pass)) & 2047]++] = a[i];
    }
    int* swap = a; a = b; b = swap;
}
for (int i = 0; i < n; ++i) job.order.data[first + i] = a[i];
job.num_seen.data[view] = n;
int sum = 0;
for (int t = 0; t <= job.tiles_x * job.tiles_y; ++t) { const int c = counts[t]; counts[t] = sum; sum += c; }
"""
)
"""Orders the surfels of one view by depth and counts the entries of each tile."""

FILL = (
    CONSTANTS
    + r"""
const wide first = (wide)view * job.num_surfels;
const wide offset = job.view_begin.data[view];
int* next = job.cursor.data + (wide)view * job.tiles_x * job.tiles_y;
const int* counts = job.tile_begin.data + (wide)view * (job.tiles_x * job.tiles_y + 1);
for (int t = 0; t < job.tiles_x * job.tiles_y; ++t) next[t] = counts[t];
for (int k = 0; k < job.num_seen.data[view]; ++k) {
    const int i = job.order.data[first + k];
    const short* box = job.boxes.data + 4 * (first + i);
    int row = job.row_begin.data[first + i];
    for (int y = box[1] >> 4; y <= box[3] >> 4; ++y)
        for (int x = box[0] >> 4; x <= box[2] >> 4; ++x) {
            const wide e = offset + next[y * job.tiles_x + x]++;
            job.entries.data[2 * e] = i; job.entries.data[2 * e + 1] = row++;
        }
}
"""
)
"""Writes the entries (surfel, its gradient row) of every tile of one view, front to back."""

UNPROJECT = (
    VECTORS
    + "typedef vf vr;"
    + CAMERA
    + r"""
const int groups = (job.num_surfels + 15) / 16, begin = (group % groups) * 16;
const int scene = job.first_view / job.views_per_scene + group / groups;
const wide base = (wide)scene * job.num_surfels, before = (wide)scene * job.views_per_scene - job.first_view;
const int first_view = before > 0 ? (int)before : 0;
const int end_view = before + job.views_per_scene < job.num_views ? (int)before + job.views_per_scene : job.num_views;
camera_frame s;
s.gather(job.means.data + 3 * base, job.quats.data + 4 * base, job.scales.data + 2 * base, begin, job.num_surfels);
vf dm[3] = {}, da[3] = {}, db[3] = {}, dn[3] = {}, dcolor[3] = {}, dsu{}, dsv{}, dopacity{};
for (int view = first_view; view < end_view; ++view) {
    const float* c = job.views.data + VIEW * view;
    vf g[RECORD];
    vi seen{};
    bool any = false;
    for (int l = 0; l < 16; ++l) {
        const wide k = (wide)view * job.num_surfels + begin + l;
        const int count = begin + l < job.num_surfels ? job.num_tiles.data[k] : 0;
        float row[RECORD] = {0};
        if (count) {
            const float* from = job.rows.data + RECORD * (job.view_begin.data[view] + job.row_begin.data[k]);
            for (int t = 0; t < count; ++t, from += RECORD)
                for (int j = 0; j < RECORD; ++j) row[j] += from[j];
            seen[l] = -1;
            any = true;
        }
        for (int j = 0; j < RECORD; ++j) g[j][l] = row[j];
    }
    if (!any) continue;
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
}
const vf w = s.qw, x = s.qx, y = s.qy, z = s.qz;
vf dw = 2.0f * (z * da[1] - y * da[2] - z * db[0] + x * db[2] + y * dn[0] - x * dn[1]);
vf dx = 2.0f * (y * da[1] + z * da[2] + y * db[0] - 2.0f * x * db[1] + w * db[2] + z * dn[0] - w * dn[1] - 2.0f * x * dn[2]);
vf dy = 2.0f * (-2.0f * y * da[0] + x * da[1] - w * da[2] + x * db[0] + z * db[2] + w * dn[0] + z * dn[1] - 2.0f * y * dn[2]);
vf dz = 2.0f * (-2.0f * z * da[0] + w * da[1] + x * da[2] - w * db[0] - 2.0f * z * db[1] + y * db[2] + x * dn[0] + y * dn[1]);
const vf along = dw * w + dx * x + dy * y + dz * z;  // the length of a quaternion has no effect
dw = (dw - along * w) / s.nrm; dx = (dx - along * x) / s.nrm; dy = (dy - along * y) / s.nrm; dz = (dz - along * z) / s.nrm;
for (int l = 0; l < 16 && begin + l < job.num_surfels; ++l) {
    bool seen = false;
    for (int view = first_view; view < end_view; ++view)
        seen |= job.num_tiles.data[(wide)view * job.num_surfels + begin + l] > 0;
    if (!seen) continue;
    const wide i = base + begin + l;
    for (int j = 0; j < 3; ++j) { job.d_means.data[3 * i + j] += dm[j][l]; job.d_colors.data[3 * i + j] += dcolor[j][l]; }
    job.d_quats.data[4 * i] += dw[l]; job.d_quats.data[4 * i + 1] += dx[l];
    job.d_quats.data[4 * i + 2] += dy[l]; job.d_quats.data[4 * i + 3] += dz[l];
    job.d_scales.data[2 * i] += dsu[l]; job.d_scales.data[2 * i + 1] += dsv[l];
    job.d_opacities.data[i] += dopacity[l];
}
"""
)
"""Sums the rows of 16 surfels over tiles and views, in a fixed order, and carries them back to their parameters."""
