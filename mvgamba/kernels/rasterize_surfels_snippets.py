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

from mvgamba.kernels import rasterize_surfels_algebra as algebra

CONSTANTS = "#pragma clang fp contract(on)\n" + algebra.NUMBERS

VECTORS = (
    CONSTANTS
    + r"""
typedef float vf __attribute__((vector_size(64)));
typedef float vf_unaligned __attribute__((vector_size(64), aligned(4)));
typedef int vi __attribute__((vector_size(64)));
struct simd {
    static inline bool any(vi mask) { return __builtin_reduce_or(mask) != 0; }
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

CAMERA = (
    r"""
#define ROOT __builtin_elementwise_sqrt
#define ABS __builtin_elementwise_abs
#define CEIL __builtin_elementwise_ceil
#define FLOOR __builtin_elementwise_floor
#define MAX __builtin_elementwise_max
#define MIN __builtin_elementwise_min
#define NARROW(x) __builtin_convertvector(x, vf)
"""
    + algebra.FRAME
    + r"""
auto gather = [](camera_frame& s, const float* means, const float* quats, const float* scales, int begin, int count) {
    for (int l = 0; l < 16; ++l) {
        const wide i = begin + l < count ? begin + l : count - 1;
        s.mx[l] = means[3 * i]; s.my[l] = means[3 * i + 1]; s.mz[l] = means[3 * i + 2];
        s.qw[l] = quats[4 * i]; s.qx[l] = quats[4 * i + 1]; s.qy[l] = quats[4 * i + 2]; s.qz[l] = quats[4 * i + 3];
        s.su[l] = scales[2 * i]; s.sv[l] = scales[2 * i + 1];
    }
    s.turn();
};
"""
)

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
gather(s, job.means.data + 3 * base, job.quats.data + 4 * base, job.scales.data + 2 * base, begin, job.num_surfels);
s.see(c);
vf threshold, opacity;
for (int l = 0; l < 16; ++l) {
    const wide i = begin + l < job.num_surfels ? begin + l : job.num_surfels - 1;
    threshold[l] = job.thresholds.data[base + i]; opacity[l] = job.opacities.data[base + i];
}
"""
    + algebra.PROJECT
    + r"""
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
        if (i + 16 < n) __builtin_prefetch(job.records.data + RECORD * (first + a[i + 16]) + 8);
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
    if (k + 16 < job.num_seen.data[view]) __builtin_prefetch(job.boxes.data + 4 * (first + job.order.data[first + k + 16]));
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
gather(s, job.means.data + 3 * base, job.quats.data + 4 * base, job.scales.data + 2 * base, begin, job.num_surfels);
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
"""
    + algebra.UNPROJECT
    + r"""
}
"""
    + algebra.QUATERNION
    + r"""
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
