"""The C++ of the surfel rasterizer for CUDA; `rasterize_surfels_algebra` has what it shares with the CPU.

Records and gradient rows are those of `rasterize_surfels_snippets`, as five quads of floats, so that one surfel is read in
five wide loads. Two free places of a record hold the box of its pixels: 15 has x0 and x1 in 16 bits each, 19 has y0 and y1.
An entry is a pair of surfel and tile. Surfel m of a group (image times surfels) owns the entries offsets[m] - num_tiles[m] to
offsets[m] before sorting, and the gradient rows of the same places; `order` leads from a place after sorting to that before.
"""

from mvgamba.kernels import rasterize_surfels_algebra as algebra
from mvgamba.kernels.warp_blocks import PRELUDE

QUADS = (
    algebra.NUMBERS
    + r"""
struct alignas(16) quad { float x, y, z, w; };
union bits { float f; int i; };
"""
)

SCALARS = (
    QUADS
    + r"""
typedef double vr;  // for the digits of discs at grazing incidence
typedef bool vi;
#define ROOT wp::sqrt
#define ABS wp::abs
#define CEIL wp::ceil
#define FLOOR wp::floor
#define MAX wp::max
#define MIN wp::min
#define NARROW(x) ((float)(x))
"""
)

READ_SURFEL = r"""
camera_frame s;
s.mx = job.means.data[3 * surfel]; s.my = job.means.data[3 * surfel + 1]; s.mz = job.means.data[3 * surfel + 2];
s.qw = job.quats.data[4 * surfel]; s.qx = job.quats.data[4 * surfel + 1];
s.qy = job.quats.data[4 * surfel + 2]; s.qz = job.quats.data[4 * surfel + 3];
s.su = job.scales.data[2 * surfel]; s.sv = job.scales.data[2 * surfel + 1];
s.turn();
"""

PROJECT = (
    SCALARS
    + "typedef float vf;"
    + algebra.FRAME
    + r"""
if (item < job.num_views * job.num_surfels) {
const int view = item / job.num_surfels;
const wide surfel = (wide)((job.first_view + view) / job.views_per_scene) * job.num_surfels + item % job.num_surfels;
const float* c = job.views.data + VIEW * view;
"""
    + READ_SURFEL
    + r"""
s.see(c);
const float threshold = job.thresholds.data[surfel], opacity = job.opacities.data[surfel];
"""
    + algebra.PROJECT
    + r"""
int tiles = 0;
if (seen && x0 <= x1 && y0 <= y1) {
    const int left = (int)x0, right = (int)x1, top = (int)y0, bottom = (int)y1;
    tiles = ((right >> 4) - (left >> 4) + 1) * ((bottom >> 4) - (top >> 4) + 1);
    bits columns, rows;
    columns.i = left | right << 16;
    rows.i = top | bottom << 16;
    quad* to = (quad*)job.records.data + 5 * (wide)item;
    const float* color = job.colors.data + 3 * surfel;
    to[0] = quad{r[0], r[1], r[2], r[3]};
    to[1] = quad{r[4], r[5], r[6], r[7]};
    to[2] = quad{r[8], r[9], r[10], r[11]};
    to[3] = quad{color[0], color[1], color[2], columns.f};
    to[4] = quad{r[16], r[17], r[18], rows.f};
}
job.num_tiles.data[item] = tiles;
}
"""
)
"""One surfel into one image: its record, and how many tiles it touches (0: not seen)."""

FILL = (
    QUADS
    + r"""
if (item < job.num_views * job.num_surfels && job.num_tiles.data[item] > 0) {
    const float* record = job.records.data + RECORD * (wide)item;
    bits depth, columns, rows;
    depth.f = record[8]; columns.f = record[15]; rows.f = record[19];
    const int first = item / job.num_surfels * (job.tiles_x * job.tiles_y);
    const int left = (columns.i & 0xffff) >> 4, right = columns.i >> 20, top = (rows.i & 0xffff) >> 4, bottom = rows.i >> 20;
    wide at = job.offsets.data[item] - job.num_tiles.data[item];
    for (int y = top; y <= bottom; ++y)
        for (int x = left; x <= right; ++x, ++at) {
            job.keys.data[at] = (wide)(first + y * job.tiles_x + x) << 32 | depth.i;  // positive floats sort as integers
            job.owners.data[at] = item;
        }
}
"""
)
"""The unsorted entries of one surfel in one image: tile and depth as key, the surfel as owner."""

# A block of 256 threads is a tile of 16 x 16 pixels, a warp 8 x 4 of them: a warp that a surfel's box misses passes it over.
TILE = r"""
const int tiles = job.tiles_x * job.tiles_y, view = block / tiles, tile = block % tiles;
const int warp_x = tile % job.tiles_x * 16 + ((THREAD >> 5) & 1) * 8, warp_y = tile / job.tiles_x * 16 + (THREAD >> 6) * 4;
const int column = warp_x + (THREAD & 7), row = warp_y + ((THREAD >> 3) & 3);
const bool inside = column < job.width && row < job.height;
const float pixel_x = column + 0.5f, pixel_y = row + 0.5f;
const wide area = (wide)job.height * job.width, pixel = (wide)row * job.width + column;
const int begin = job.tile_begin.data[block], end = job.tile_begin.data[block + 1];
const quad* records = (const quad*)job.records.data;
const float origin = end > begin ? records[5 * (wide)job.entries.data[begin] + 2].w : 0.0f;
"""
REACH = r"""
bits box_x, box_y;
box_x.f = s[3].w; box_y.f = s[4].w;
const bool reach = (box_x.i & 0xffff) <= warp_x + 7 && (box_x.i >> 16) >= warp_x
    && (box_y.i & 0xffff) <= warp_y + 3 && (box_y.i >> 16) >= warp_y;
"""
# Where a ray meets a disc. The same lines serve both passes.
MEET = r"""
const float dx = pixel_x - s[0].x, dy = pixel_y - s[0].y;
const float slope = dx * s[1].z + dy * s[1].w + 1.0f;
const float rho2 = 2.0f * (dx * dx + dy * dy);
const bool in_front = slope > HORIZON;
const float inverse = in_front ? 1.0f / slope : 0.0f;
const float u = (dx * s[0].z + dy * s[0].w) * inverse, v = (dx * s[1].x + dy * s[1].y) * inverse;
const float rho3 = u * u + v * v;
const bool on_plane = in_front && rho3 <= rho2 && inverse * s[2].x >= job.near;
const float rho = on_plane ? rho3 : rho2;
"""
WEIGH = r"""
const float gauss = exp2_fast(-0.72134752f * rho);
const float unclamped = gauss * s[2].z;
const float alpha = wp::min(unclamped, ALPHA_MAX);
const float stretch = on_plane ? inverse : 1.0f;
const float z = s[2].x * stretch;
const float near_z = s[2].w * (on_plane ? slope : 1.0f);
const float moment = DISTORTION_SLOPE * (origin - near_z);
"""

BLEND = (
    PRELUDE
    + QUADS
    + TILE
    + r"""
enum { BATCH = 256 };
BLOCK_SHARED quad staged[5 * BATCH];
bool alive = inside;
int last = begin, median_entry = -1;
float light = 1.0f, red = 0.0f, green = 0.0f, blue = 0.0f, depth = 0.0f, nx = 0.0f, ny = 0.0f, nz = 0.0f, median = 0.0f;
float spread = 0.0f, first = 0.0f, second = 0.0f;
for (int batch = begin; batch < end; batch += BATCH) {
    if (block_count(alive) == 0) break;  // also: nobody reads the last batch any more
    const int size = end - batch < BATCH ? end - batch : BATCH;
    for (int k = THREAD; k < 5 * size; k += 256) staged[k] = records[5 * (wide)job.entries.data[batch + k / 5] + k % 5];
    BLOCK_SYNC();
    for (int k = 0; k < size && alive; ++k) {
        const quad* s = staged + 5 * k;
"""
    + REACH
    + "if (!reach) continue;"
    + MEET
    + "if (!(rho <= s[2].y)) continue;"
    + WEIGH
    + r"""
        if (light - alpha * light < TRANSMITTANCE_MIN) {
            alive = false;
            continue;
        }
        const float w = alpha * light;
        last = batch + k + 1;
        if (light > 0.5f) {
            median = z;
            median_entry = batch + k;
        }
        spread += w * (moment * moment * (1.0f - light) + second - 2.0f * moment * first);
        first += w * moment;
        second += w * moment * moment;
        red += w * s[3].x; green += w * s[3].y; blue += w * s[3].z;
        depth += w * z;
        nx += w * s[4].x; ny += w * s[4].y; nz += w * s[4].z;
        light -= w;
    }
}
if (inside) {
    float* rgb = job.rgb.data + 3 * view * area + pixel;
    rgb[0] = red; rgb[area] = green; rgb[2 * area] = blue;
    float* normals = job.normals.data + 3 * view * area + pixel;
    normals[0] = nx; normals[area] = ny; normals[2 * area] = nz;
    job.alpha_plane.data[view * area + pixel] = 1.0f - light;
    job.depth_plane.data[view * area + pixel] = depth;
    job.median_depth.data[view * area + pixel] = median;
    job.distortion_plane.data[view * area + pixel] = spread;
    job.moments.data[2 * view * area + pixel] = first;
    job.moments.data[(2 * view + 1) * area + pixel] = second;
    job.median_entries.data[view * area + pixel] = median_entry;
    job.last_entries.data[view * area + pixel] = last;
}
"""
)
"""One tile of one image, front to back, until all its pixels are opaque."""

# Sums sixteen or twenty values over a warp in 16 or 21 exchanges: each round gives half of the values away and takes the other
# half of its partner's, so that lane l is left with the sum of value `slot`. (One value after the other: 5 exchanges each.)
FOLD = r"""
#define ROUND(mask, size, half) \
    _Pragma("unroll") \
    for (int i = 0; i < half; ++i) { \
        const bool upper = THREAD & mask; \
        const float low = sum[i], high = i + half < size ? sum[i + half] : 0.0f; \
        sum[i] = (upper ? high : low) + warp_xor(upper ? low : high, mask); \
    }
if (GEOMETRY) {
    ROUND(16, 20, 10) ROUND(8, 10, 5) ROUND(4, 5, 3) ROUND(2, 3, 2) ROUND(1, 2, 1)
} else {
    ROUND(16, 16, 8) ROUND(8, 8, 4) ROUND(4, 4, 2) ROUND(2, 2, 1)
    sum[0] += warp_xor(sum[0], 1);
}
"""

BLEND_BACKWARD = (
    QUADS
    + TILE
    + r"""
enum { BATCH = 32, WARPS = 8 };
BLOCK_SHARED quad staged[5 * BATCH];
BLOCK_SHARED wide target[BATCH];
BLOCK_SHARED float partial[BATCH * WARPS * RECORD];
const int lane = THREAD & 31, warp = THREAD >> 5;
int slot = -1;  // of the value whose sum over the warp this lane is left with
if (GEOMETRY) {
    const int third = (lane & 2 ? 2 : 0) + (lane & 1), fifth = (lane & 4 ? 3 : 0) + third;
    if (third < 3 && fifth < 5) slot = (lane & 16 ? 10 : 0) + (lane & 8 ? 5 : 0) + fifth;
} else if (!(lane & 1)) {
    slot = lane >> 1;
}
auto load = [&](const float* data, int channels, int channel) {
    return data && inside ? data[((wide)channels * view + channel) * area + pixel] : 0.0f;
};
const float gr = load(job.g_rgb.data, 3, 0), gg = load(job.g_rgb.data, 3, 1), gb = load(job.g_rgb.data, 3, 2);
const float ga = load(job.g_alpha.data, 1, 0), total = load(job.alpha_plane.data, 1, 0);
float gz = 0.0f, gnx = 0.0f, gny = 0.0f, gnz = 0.0f, gmedian = 0.0f, gdist = 0.0f, first = 0.0f, second = 0.0f;
int median_entry = -1;
// The sum over the surfels not yet passed of w times what a unit of w is worth to the loss.
float behind = gr * load(job.rgb.data, 3, 0) + gg * load(job.rgb.data, 3, 1) + gb * load(job.rgb.data, 3, 2) + ga * total;
if (GEOMETRY) {
    gz = load(job.g_depth.data, 1, 0); gmedian = load(job.g_median.data, 1, 0); gdist = load(job.g_distortion.data, 1, 0);
    gnx = load(job.g_normals.data, 3, 0); gny = load(job.g_normals.data, 3, 1); gnz = load(job.g_normals.data, 3, 2);
    first = load(job.moments.data, 2, 0); second = load(job.moments.data, 2, 1);
    median_entry = inside ? job.median_entries.data[view * area + pixel] : -1;
    behind += gz * load(job.depth_plane.data, 1, 0) + 2.0f * gdist * load(job.distortion_plane.data, 1, 0)
        + gnx * load(job.normals.data, 3, 0) + gny * load(job.normals.data, 3, 1) + gnz * load(job.normals.data, 3, 2);
}
const int last = inside ? job.last_entries.data[view * area + pixel] : begin;
float light = 1.0f;
for (int batch = begin; batch < end; batch += BATCH) {
    if (block_count(batch < last) == 0) break;  // also: nobody reads the last batch any more; rows left out stay zero
    const int size = end - batch < BATCH ? end - batch : BATCH;
    if (THREAD < 5 * size) staged[THREAD] = records[5 * (wide)job.entries.data[batch + THREAD / 5] + THREAD % 5];
    if (THREAD < size) target[THREAD] = job.order.data[batch + THREAD];
    BLOCK_SYNC();
    for (int k = 0; k < size; ++k) {
        const quad* s = staged + 5 * k;
        float* sums = partial + (k * WARPS + warp) * RECORD;
"""
    + REACH
    + MEET
    + r"""
        const bool met = reach && batch + k < last && rho <= s[2].y;
#if defined(__CUDA_ARCH__)
        const bool nobody = !warp_any(met);
#else
        const bool nobody = block_count(met) == 0;  // where fibers take turns, all warps must go the same way
#endif
        if (nobody) {
            if (lane < RECORD) sums[lane] = 0.0f;
            continue;
        }
        float sum[RECORD] = {0.0f};
        if (met) {
"""
    + WEIGH
    + r"""
            const float w = alpha * light;
            float worth = gr * s[3].x + gg * s[3].y + gb * s[3].z + ga;
            float dz = 0.0f;
            if (GEOMETRY) {
                worth += gz * z + gnx * s[4].x + gny * s[4].y + gnz * s[4].z;
                worth += gdist * (second + moment * moment * total - 2.0f * moment * first);
                dz = w * gz + (median_entry == batch + k ? gmedian : 0.0f);
                dz += 2.0f * DISTORTION_SLOPE * w * gdist * (moment * total - first) * near_z * near_z;
                sum[15] = dz * stretch;
                sum[16] = w * gnx; sum[17] = w * gny; sum[18] = w * gnz;
            }
            behind -= w * worth;
            // A pixel's own alpha dims what is behind it.
            const float dalpha = unclamped <= ALPHA_MAX ? light * worth - behind / (1.0f - alpha) : 0.0f;
            light -= w;
            const float drho = -0.5f * alpha * dalpha;
            if (on_plane) {
                const float du = 2.0f * u * drho, dv = 2.0f * v * drho;
                const float nu = du * inverse, nv = dv * inverse;
                const float dslope = -inverse * (du * u + dv * v + (GEOMETRY ? dz * s[2].x * inverse : 0.0f));
                sum[0] = nu * dx; sum[1] = nu * dy; sum[2] = nu;
                sum[3] = nv * dx; sum[4] = nv * dy; sum[5] = nv;
                sum[6] = dslope * dx; sum[7] = dslope * dy; sum[8] = dslope;
            } else {
                sum[9] = 4.0f * drho * dx; sum[10] = 4.0f * drho * dy;
            }
            sum[11] = dalpha * gauss;
            sum[12] = w * gr; sum[13] = w * gg; sum[14] = w * gb;
        }
"""
    + FOLD
    + r"""
        if (slot >= 0) sums[slot] = sum[0];
        if (!GEOMETRY && lane < 4) sums[16 + lane] = 0.0f;
    }
    BLOCK_SYNC();
    for (int k = THREAD; k < RECORD * size; k += 256) {
        const int entry = k / RECORD, value = k % RECORD;
        float over_warps = 0.0f;
        for (int i = 0; i < WARPS; ++i) over_warps += partial[(entry * WARPS + i) * RECORD + value];
        job.rows.data[RECORD * target[entry] + value] = over_warps;
    }
}
"""
)


def blend_backward(*, geometry: bool) -> str:
    """Gradients of one tile of one image: a row for each entry. `geometry`: planes other than rgb and alpha have any."""
    return PRELUDE + f"constexpr bool GEOMETRY = {str(geometry).lower()};" + BLEND_BACKWARD


SUM_ROWS = (
    QUADS
    + r"""
if (item < 5 * job.num_views * job.num_surfels) {
    const int count = job.num_tiles.data[item / 5];
    const quad* from = (const quad*)job.rows.data + 5 * (job.offsets.data[item / 5] - count) + item % 5;
    quad sum{0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = 0; i < count; ++i) {
        const quad a = from[5 * (wide)i];
        sum.x += a.x; sum.y += a.y; sum.z += a.z; sum.w += a.w;
    }
    ((quad*)job.sums.data)[item] = sum;
}
"""
)
"""A quarter of the way back: four values of one surfel in one image, summed over its tiles."""

UNPROJECT = (
    SCALARS
    + "typedef double vf;"
    + algebra.FRAME
    + r"""
if (item < job.num_scenes * job.num_surfels) {
const int scene = job.first_view / job.views_per_scene + item / job.num_surfels, i = item % job.num_surfels;
const wide surfel = (wide)scene * job.num_surfels + i, before = (wide)scene * job.views_per_scene - job.first_view;
const int first_view = before > 0 ? (int)before : 0;
const int end_view = before + job.views_per_scene < job.num_views ? (int)before + job.views_per_scene : job.num_views;
"""
    + READ_SURFEL
    + r"""
vf dm[3] = {}, da[3] = {}, db[3] = {}, dn[3] = {}, dcolor[3] = {}, dsu{}, dsv{}, dopacity{};
const bool seen = true;
bool any = false;
for (int view = first_view; view < end_view; ++view) {
    const wide m = (wide)view * job.num_surfels + i;
    if (job.num_tiles.data[m] == 0) continue;
    any = true;
    const float* c = job.views.data + VIEW * view;
    const float* g = job.sums.data + RECORD * m;
"""
    + algebra.UNPROJECT
    + "}\nif (any) {"
    + algebra.QUATERNION
    + r"""
for (int j = 0; j < 3; ++j) { job.d_means.data[3 * surfel + j] += dm[j]; job.d_colors.data[3 * surfel + j] += dcolor[j]; }
job.d_quats.data[4 * surfel] += dw; job.d_quats.data[4 * surfel + 1] += dx;
job.d_quats.data[4 * surfel + 2] += dy; job.d_quats.data[4 * surfel + 3] += dz;
job.d_scales.data[2 * surfel] += dsu; job.d_scales.data[2 * surfel + 1] += dsv;
job.d_opacities.data[surfel] += dopacity;
}
}
"""
)
"""The sums of one surfel over its views, carried back to its parameters."""
