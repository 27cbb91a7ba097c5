"""The C++ that blends surfels tile by tile, and its gradient; `rasterize_surfels_snippets` says what records and rows hold."""

from mvgamba.kernels.rasterize_surfels_snippets import VECTORS

TILE = r"""
struct pixels {
    // A plane of the image and the 16 x 16 pixels of a tile: block b, lane l is row 4 (b / 4) + l / 4, column 4 (b % 4) + l % 4.
    static inline void store(float* plane, const vf* tile, int x0, int y0, int height, int width) {
        for (int y = 0; y < 16 && y0 + y < height; ++y)
            for (int x = 0; x < 16; x += 4) {
                const float* from = (const float*)(tile + (y >> 2) * 4 + (x >> 2)) + (y & 3) * 4;
                float* to = plane + (wide)(y0 + y) * width + x0 + x;
                if (x0 + x + 4 <= width) __builtin_memcpy(to, from, 16);
                else for (int k = 0; x0 + x + k < width; ++k) to[k] = from[k];
            }
    }
    static inline void load(const float* plane, vf* tile, int x0, int y0, int height, int width) {
        for (int y = 0; y < 16 && y0 + y < height; ++y)
            for (int x = 0; x < 16; x += 4) {
                float* to = (float*)(tile + (y >> 2) * 4 + (x >> 2)) + (y & 3) * 4;
                const float* from = plane + (wide)(y0 + y) * width + x0 + x;
                if (x0 + x + 4 <= width) __builtin_memcpy(to, from, 16);
                else for (int k = 0; x0 + x + k < width; ++k) to[k] = from[k];
            }
    }
    static inline unsigned blocks(const short* box, int x0, int y0) {  // bit b: the box touches block b of the tile
        const int l = box[0] > x0 ? (box[0] - x0) >> 2 : 0, r = box[2] < x0 + 15 ? (box[2] - x0) >> 2 : 3;
        const int t = box[1] > y0 ? (box[1] - y0) >> 2 : 0, d = box[3] < y0 + 15 ? (box[3] - y0) >> 2 : 3;
        const unsigned columns = (2u << r) - (1u << l);
        const unsigned rows = (16u << (4 * d)) - (1u << (4 * t));  // 4 bits per row of blocks
        return (columns * 0x1111u) & rows;
    }
};
const vf lane_x = {0.5f, 1.5f, 2.5f, 3.5f, 0.5f, 1.5f, 2.5f, 3.5f, 0.5f, 1.5f, 2.5f, 3.5f, 0.5f, 1.5f, 2.5f, 3.5f};
const vf lane_y = {0.5f, 0.5f, 0.5f, 0.5f, 1.5f, 1.5f, 1.5f, 1.5f, 2.5f, 2.5f, 2.5f, 2.5f, 3.5f, 3.5f, 3.5f, 3.5f};
const int tiles = job.tiles_x * job.tiles_y;
const wide area = (wide)job.height * job.width;
"""

# Where a ray meets a disc, and how much of it is seen. The same lines serve both passes, so that both see the same.
MEET = r"""
const vf dx = block_x - s[0], dy = block_y - s[1];
const vf slope = dx * s[6] + dy * s[7] + 1.0f;
const vf rho2 = 2.0f * (dx * dx + dy * dy);
const vi in_front = slope > HORIZON;
const vf inverse = in_front ? 1.0f / slope : vf{};
const vf u = (dx * s[2] + dy * s[3]) * inverse, v = (dx * s[4] + dy * s[5]) * inverse;
const vf rho3 = u * u + v * v;
const vi on_plane = in_front & (rho3 <= rho2) & (inverse * s[8] >= job.near);
const vf rho = on_plane ? rho3 : rho2;
vi met = (rho <= s[9]) & alive[block];
if (!simd::any(met)) continue;
"""
WEIGH = r"""
const vf gauss = simd::exp(simd::max(-0.5f * rho, vf{} - 80.0f));
const vf unclamped = gauss * s[10];
vf alpha = met ? simd::min(unclamped, vf{} + ALPHA_MAX) : vf{};
const vf after = light - alpha * light;
const vi spent = met & (after < TRANSMITTANCE_MIN);
alive[block] &= ~spent;
met &= ~spent;
alpha = met ? alpha : vf{};
const vf w = alpha * light;
"""

BLEND = (
    VECTORS
    + TILE
    + r"""
enum { CHUNK = 256, AHEAD = 16 };
for (;;) {
    const int tile = __atomic_fetch_add(job.next_tile.data, 1, __ATOMIC_RELAXED);
    if (tile >= tiles * job.num_views) break;
    const int view = tile / tiles, x0 = (tile % tiles) % job.tiles_x * 16, y0 = (tile % tiles) / job.tiles_x * 16;
    const int* begin = job.tile_begin.data + (wide)view * (tiles + 1) + tile % tiles;
    const wide offset = job.view_begin.data[view];
    const float* view_records = job.records.data + (wide)view * job.num_surfels * RECORD;
    const short* view_boxes = job.boxes.data + (wide)view * job.num_surfels * 4;
    vi alive[16], median_entry[16];
    vf transmittance[16], red[16], green[16], blue[16], depth[16], nx[16], ny[16], nz[16], median[16];
    vf distortion[16], first[16], second[16];
    for (int b = 0; b < 16; ++b) {
        const vf x = lane_x + (float)(x0 + 4 * (b & 3)), y = lane_y + (float)(y0 + 4 * (b >> 2));
        alive[b] = (x < (float)job.width) & (y < (float)job.height);
        median_entry[b] = vi{} - 1;
        transmittance[b] = vf{} + 1.0f;
        red[b] = green[b] = blue[b] = depth[b] = nx[b] = ny[b] = nz[b] = median[b] = vf{};
        distortion[b] = first[b] = second[b] = vf{};
    }
    const float origin = begin[1] > begin[0] ? view_records[RECORD * (wide)job.entries.data[2 * (offset + begin[0])] + 11] : 0.0f;
    bool busy = true;
    for (int chunk = begin[0]; chunk < begin[1]; chunk += CHUNK) {
        const int size = begin[1] - chunk < CHUNK ? begin[1] - chunk : CHUNK;
        unsigned short* touched = (unsigned short*)job.masks.data + offset + chunk;
        for (int k = 0; k < size; ++k) touched[k] = 0;
        if (!busy) continue;
        unsigned short lists[16][CHUNK];
        int lengths[16] = {0};
        const int* ids = job.entries.data + 2 * (offset + chunk);
        for (int k = 0; k < size; ++k) {
            if (k + AHEAD < size) __builtin_prefetch(view_boxes + 4 * (wide)ids[2 * (k + AHEAD)]);
            const float* record = view_records + RECORD * (wide)ids[2 * k];  // neighbours in depth lie anywhere in memory
            __builtin_prefetch(record);
            __builtin_prefetch(record + RECORD - 1);
            for (unsigned m = pixels::blocks(view_boxes + 4 * (wide)ids[2 * k], x0, y0); m; m &= m - 1) {
                const int b = __builtin_ctz(m);
                lists[b][lengths[b]++] = (unsigned short)k;
            }
        }
        busy = false;
        for (int block = 0; block < 16; ++block) {
            if (!simd::any(alive[block])) continue;
            const vf block_x = lane_x + (float)(x0 + 4 * (block & 3)), block_y = lane_y + (float)(y0 + 4 * (block >> 2));
            vf light = transmittance[block], r = red[block], g = green[block], bl = blue[block], zs = depth[block];
            vf n0 = nx[block], n1 = ny[block], n2 = nz[block], mid = median[block];
            vf spread = distortion[block], m1 = first[block], m2 = second[block];
            vi mid_entry = median_entry[block];
            for (int at = 0; at < lengths[block]; ++at) {
                const int k = lists[block][at];
                const float* s = view_records + RECORD * (wide)job.entries.data[2 * (offset + chunk + k)];
"""
    + MEET
    + "touched[k] |= (unsigned short)(1u << block);"
    + WEIGH
    + r"""
                if (!simd::any(alive[block])) at = lengths[block];
                const vf z = s[8] * (on_plane ? inverse : vf{} + 1.0f);
                const vi half = met & (light > 0.5f);
                mid = half ? z : mid;
                mid_entry = half ? vi{} + (chunk + k) : mid_entry;
                const vf m = DISTORTION_SLOPE * (origin - s[11] * (on_plane ? slope : vf{} + 1.0f));
                spread += w * (m * m * (1.0f - light) + m2 - 2.0f * m * m1);
                m1 += w * m;
                m2 += w * m * m;
                r += w * s[12]; g += w * s[13]; bl += w * s[14];
                zs += w * z;
                n0 += w * s[16]; n1 += w * s[17]; n2 += w * s[18];
                light -= w;
            }
            transmittance[block] = light; red[block] = r; green[block] = g; blue[block] = bl; depth[block] = zs;
            nx[block] = n0; ny[block] = n1; nz[block] = n2; median[block] = mid; median_entry[block] = mid_entry;
            distortion[block] = spread; first[block] = m1; second[block] = m2;
            busy |= simd::any(alive[block]);
        }
    }
    for (int b = 0; b < 16; ++b) transmittance[b] = 1.0f - transmittance[b];
    pixels::store(job.rgb.data + (3 * view + 0) * area, red, x0, y0, job.height, job.width);
    pixels::store(job.rgb.data + (3 * view + 1) * area, green, x0, y0, job.height, job.width);
    pixels::store(job.rgb.data + (3 * view + 2) * area, blue, x0, y0, job.height, job.width);
    pixels::store(job.alpha_plane.data + view * area, transmittance, x0, y0, job.height, job.width);
    pixels::store(job.depth_plane.data + view * area, depth, x0, y0, job.height, job.width);
    pixels::store(job.normals.data + (3 * view + 0) * area, nx, x0, y0, job.height, job.width);
    pixels::store(job.normals.data + (3 * view + 1) * area, ny, x0, y0, job.height, job.width);
    pixels::store(job.normals.data + (3 * view + 2) * area, nz, x0, y0, job.height, job.width);
    pixels::store(job.median_depth.data + view * area, median, x0, y0, job.height, job.width);
    pixels::store(job.distortion_plane.data + view * area, distortion, x0, y0, job.height, job.width);
    pixels::store(job.moments.data + (2 * view + 0) * area, first, x0, y0, job.height, job.width);
    pixels::store(job.moments.data + (2 * view + 1) * area, second, x0, y0, job.height, job.width);
    pixels::store((float*)job.median_entries.data + view * area, (const vf*)median_entry, x0, y0, job.height, job.width);
}
"""
)
"""Blends tiles, one after the other, as long as there are any; also notes which blocks each entry reached."""

BLEND_BACKWARD = (
    TILE
    + r"""
for (;;) {
    const int tile = __atomic_fetch_add(job.next_tile.data, 1, __ATOMIC_RELAXED);
    if (tile >= tiles * job.num_views) break;
    const int view = tile / tiles, x0 = (tile % tiles) % job.tiles_x * 16, y0 = (tile % tiles) / job.tiles_x * 16;
    const int* begin = job.tile_begin.data + (wide)view * (tiles + 1) + tile % tiles;
    const wide offset = job.view_begin.data[view];
    const float* view_records = job.records.data + (wide)view * job.num_surfels * RECORD;
    vi alive[16];
    vf transmittance[16], behind[16], gr[16], gg[16], gb[16], ga[16], plane[16];
    auto load = [&](const float* data, int channels, int channel, vf* to) {
        for (int b = 0; b < 16; ++b) to[b] = vf{};
        if (data) pixels::load(data + (channels * view + channel) * area, to, x0, y0, job.height, job.width);
    };
    load(job.g_rgb.data, 3, 0, gr); load(job.g_rgb.data, 3, 1, gg); load(job.g_rgb.data, 3, 2, gb); load(job.g_alpha.data, 1, 0, ga);
    // `behind`: the sum over the surfels not yet passed of w times what a unit of w is worth to the loss.
    load(job.rgb.data, 3, 0, plane); for (int b = 0; b < 16; ++b) behind[b] = gr[b] * plane[b];
    load(job.rgb.data, 3, 1, plane); for (int b = 0; b < 16; ++b) behind[b] += gg[b] * plane[b];
    load(job.rgb.data, 3, 2, plane); for (int b = 0; b < 16; ++b) behind[b] += gb[b] * plane[b];
    load(job.alpha_plane.data, 1, 0, plane); for (int b = 0; b < 16; ++b) behind[b] += ga[b] * plane[b];
    vf gz[16], gnx[16], gny[16], gnz[16], gmedian[16], gdist[16], first[16], second[16];
    vi median_entry[16];
    float origin = 0.0f;
    if (GEOMETRY) {
        load(job.g_depth.data, 1, 0, gz); load(job.g_normals.data, 3, 0, gnx); load(job.g_normals.data, 3, 1, gny);
        load(job.g_normals.data, 3, 2, gnz); load(job.g_median.data, 1, 0, gmedian); load(job.g_distortion.data, 1, 0, gdist);
        load(job.moments.data, 2, 0, first); load(job.moments.data, 2, 1, second);
        load((const float*)job.median_entries.data, 1, 0, (vf*)median_entry);
        load(job.depth_plane.data, 1, 0, plane); for (int b = 0; b < 16; ++b) behind[b] += gz[b] * plane[b];
        load(job.normals.data, 3, 0, plane); for (int b = 0; b < 16; ++b) behind[b] += gnx[b] * plane[b];
        load(job.normals.data, 3, 1, plane); for (int b = 0; b < 16; ++b) behind[b] += gny[b] * plane[b];
        load(job.normals.data, 3, 2, plane); for (int b = 0; b < 16; ++b) behind[b] += gnz[b] * plane[b];
        load(job.distortion_plane.data, 1, 0, plane); for (int b = 0; b < 16; ++b) behind[b] += 2.0f * gdist[b] * plane[b];
        load(job.alpha_plane.data, 1, 0, plane);
        if (begin[1] > begin[0]) origin = view_records[RECORD * (wide)job.entries.data[2 * (offset + begin[0])] + 11];
    }
    const vf* total = plane;
    for (int b = 0; b < 16; ++b) {
        const vf x = lane_x + (float)(x0 + 4 * (b & 3)), y = lane_y + (float)(y0 + 4 * (b >> 2));
        alive[b] = (x < (float)job.width) & (y < (float)job.height);
        transmittance[b] = vf{} + 1.0f;
    }
    for (int k = begin[0]; k < begin[1]; ++k) {
        const int i = job.entries.data[2 * (offset + k)];
        if (k + 8 < begin[1]) {
            const float* later = view_records + RECORD * (wide)job.entries.data[2 * (offset + k + 8)];
            __builtin_prefetch(later);
            __builtin_prefetch(later + RECORD - 1);
        }
        const float* s = view_records + RECORD * (wide)i;
        float* row = job.rows.data + RECORD * (offset + job.entries.data[2 * (offset + k) + 1]);
        unsigned m = (unsigned short)job.masks.data[offset + k];
        if (m == 0) {
            for (int j = 0; j < RECORD; ++j) row[j] = 0.0f;
            continue;
        }
        vf sum[16], sum_nx{}, sum_ny{}, sum_nz{};
        for (int j = 0; j < 16; ++j) sum[j] = vf{};
        for (; m; m &= m - 1) {
            const int block = __builtin_ctz(m);
            const vf block_x = lane_x + (float)(x0 + 4 * (block & 3)), block_y = lane_y + (float)(y0 + 4 * (block >> 2));
            const vf light = transmittance[block];
"""
    + MEET
    + WEIGH
    + r"""
            transmittance[block] = light - w;
            vf worth = gr[block] * s[12] + gg[block] * s[13] + gb[block] * s[14] + ga[block];
            sum[12] += w * gr[block]; sum[13] += w * gg[block]; sum[14] += w * gb[block];
            vf dz{};
            const vf stretch = on_plane ? inverse : vf{} + 1.0f;
            if (GEOMETRY) {
                const vf z = s[8] * stretch;
                const vf near_z = s[11] * (on_plane ? slope : vf{} + 1.0f);
                const vf moment = DISTORTION_SLOPE * (origin - near_z);
                worth += gz[block] * z + gnx[block] * s[16] + gny[block] * s[17] + gnz[block] * s[18];
                worth += gdist[block] * (second[block] + moment * moment * total[block] - 2.0f * moment * first[block]);
                sum_nx += w * gnx[block]; sum_ny += w * gny[block]; sum_nz += w * gnz[block];
                dz = w * gz[block] + ((met & (median_entry[block] == k)) ? gmedian[block] : vf{});
                dz += 2.0f * DISTORTION_SLOPE * w * gdist[block] * (moment * total[block] - first[block]) * near_z * near_z;
            }
            behind[block] -= w * worth;
            // A pixel's own alpha dims what is behind it.
            vf dalpha = light * worth - behind[block] / (1.0f - alpha);
            dalpha = (met & (unclamped <= ALPHA_MAX)) ? dalpha : vf{};
            sum[11] += dalpha * gauss;
            const vf drho = -0.5f * alpha * dalpha;
            const vf plane_drho = on_plane ? drho : vf{};
            const vf low_drho = 4.0f * (drho - plane_drho);
            const vf pu = on_plane ? u : vf{}, pv = on_plane ? v : vf{};  // u may be infinite elsewhere
            const vf du = 2.0f * pu * plane_drho, dv = 2.0f * pv * plane_drho;
            vf dslope = du * pu + dv * pv;
            if (GEOMETRY) {
                sum[15] += dz * stretch;
                dslope += on_plane ? dz * s[8] * inverse : vf{};
            }
            dslope *= -inverse;
            const vf nu = du * inverse, nv = dv * inverse;
            sum[0] += nu * dx; sum[1] += nu * dy; sum[2] += nu;
            sum[3] += nv * dx; sum[4] += nv * dy; sum[5] += nv;
            sum[6] += dslope * dx; sum[7] += dslope * dy; sum[8] += dslope;
            sum[9] += low_drho * dx; sum[10] += low_drho * dy;
        }
        *(vf_unaligned*)row = simd::fold4(simd::fold4(sum[0], sum[1], sum[2], sum[3]),
            simd::fold4(sum[4], sum[5], sum[6], sum[7]), simd::fold4(sum[8], sum[9], sum[10], sum[11]),
            simd::fold4(sum[12], sum[13], sum[14], sum[15]));
        const vf n = simd::fold4(sum_nx, sum_ny, sum_nz, vf{});
        for (int j = 0; j < 4; ++j) row[16 + j] = n[4 * j] + n[4 * j + 1] + n[4 * j + 2] + n[4 * j + 3];
    }
}
"""
)


def blend_backward(*, geometry: bool) -> str:
    """Gradients of the blend: one row for each entry. `geometry`: planes other than rgb and alpha have any."""
    return VECTORS + f"constexpr bool GEOMETRY = {str(geometry).lower()};" + BLEND_BACKWARD
