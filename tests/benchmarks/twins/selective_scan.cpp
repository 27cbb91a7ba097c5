// The selective scan in C++ and OpenMP, forward and backward: what a careful author would ship as an extension.
//
//     g++ -O3 -march=native -fopenmp -shared -fPIC selective_scan.cpp
//
// Sixteen channels in a vector, sixteen states in registers, a polynomial exp; with bias, softplus, D and gate. Sequences are
// (length, channels) or (length, 16), A and the states (16, channels), channels a multiple of 16.
#include <algorithm>
#include <cstddef>
#include <vector>

namespace {

constexpr int N = 16, CHUNK = 64;
constexpr float LOG2E = 1.44269504088896341f;
typedef float vec __attribute__((vector_size(64)));
typedef float vec_u __attribute__((vector_size(64), aligned(4)));
typedef int ivec __attribute__((vector_size(64)));

inline vec load(const float* p) { return *(const vec_u*)p; }
inline void store(float* p, vec v) { *(vec_u*)p = v; }

inline vec exp2v(vec x) {
    x = x < -126.0f ? (vec){} - 126.0f : x;
    x = x > 126.0f ? (vec){} + 126.0f : x;
    const vec shifted = x + 12582912.0f, f = x - (shifted - 12582912.0f);
    vec p = (vec){} + 1.5403530e-4f;
    p = p * f + 1.3333558e-3f;
    p = p * f + 9.6181291e-3f;
    p = p * f + 5.5504109e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314718e-1f;
    p = p * f + 1.0f;
    return (vec)((ivec)p + (((ivec)shifted) << 23));
}

inline vec sigmoid(vec x) { return 1.0f / (1.0f + exp2v(x * -LOG2E)); }

inline vec softplus(vec x) {
    const vec e = exp2v((x < 0.0f ? x : -x) * LOG2E), s = e / (e + 2.0f), q = s * s;
    vec p = (vec){} + 1.0f / 15.0f;
    for (int k = 13; k > 0; k -= 2) p = p * q + 1.0f / (float)k;
    return (x < 0.0f ? (vec){} : x) + 2.0f * s * p;
}


// One transposing tree for sixteen vectors: lane n of the result is the sum over the lanes of vector n.
inline vec sums(vec* v) {
    typedef int mask __attribute__((vector_size(64)));
    const mask low8 = {0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23};
    const mask low4 = {0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27};
    const mask low2 = {0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29};
    const mask low1 = {0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30};
    for (int i = 0; i < 8; ++i) v[i] = __builtin_shuffle(v[i], v[i + 8], low8) + __builtin_shuffle(v[i], v[i + 8], low8 + 8);
    for (int i = 0; i < 4; ++i) v[i] = __builtin_shuffle(v[i], v[i + 4], low4) + __builtin_shuffle(v[i], v[i + 4], low4 + 4);
    for (int i = 0; i < 2; ++i) v[i] = __builtin_shuffle(v[i], v[i + 2], low2) + __builtin_shuffle(v[i], v[i + 2], low2 + 2);
    return __builtin_shuffle(v[0], v[1], low1) + __builtin_shuffle(v[0], v[1], low1 + 1);
}

}  // namespace

// `states`, (chunks, 16, channels), may be null; with it forward keeps what backward needs.
extern "C" void scan_forward(int length, int channels, const float* u, const float* delta, const float* A, const float* B,
                             const float* C, const float* D, const float* z, const float* bias, float* y, float* last,
                             float* states) {
#pragma omp parallel for schedule(static)
    for (int d = 0; d < channels; d += 16) {
        vec a[N], h[N];
        for (int n = 0; n < N; ++n) {
            a[n] = load(A + n * channels + d) * LOG2E;
            h[n] = (vec){};
        }
        const vec shift = load(bias + d), skip = load(D + d);
        for (int t = 0; t < length; ++t) {
            const size_t at = (size_t)t * channels + d, ahead = at + (size_t)channels * 8;
            if (states && t % CHUNK == 0)
                for (int n = 0; n < N; ++n) store(states + ((size_t)(t / CHUNK) * N + n) * channels + d, h[n]);
            __builtin_prefetch(u + ahead);
            __builtin_prefetch(delta + ahead);
            __builtin_prefetch(z + ahead);
            const vec ut = load(u + at), dt = softplus(load(delta + at) + shift), x = dt * ut, zt = load(z + at);
            vec y0 = ut * skip, y1 = (vec){};
#pragma GCC unroll 16
            for (int n = 0; n < N; n += 2) {
                h[n] = exp2v(dt * a[n]) * h[n] + x * B[(size_t)t * N + n];
                h[n + 1] = exp2v(dt * a[n + 1]) * h[n + 1] + x * B[(size_t)t * N + n + 1];
                y0 += h[n] * C[(size_t)t * N + n];
                y1 += h[n + 1] * C[(size_t)t * N + n + 1];
            }
            store(y + at, (y0 + y1) * zt * sigmoid(zt));
        }
        for (int n = 0; n < N; ++n) store(last + n * channels + d, h[n]);
    }
}

extern "C" void scan_backward(int length, int channels, const float* u, const float* delta, const float* A, const float* B,
                              const float* C, const float* D, const float* z, const float* bias, const float* states,
                              const float* gy, float* gu, float* gdelta, float* gA, float* gB, float* gC, float* gD,
                              float* gz, float* gbias) {
    const int chunks = (length + CHUNK - 1) / CHUNK;
    std::fill(gB, gB + (size_t)length * N, 0.0f);
    std::fill(gC, gC + (size_t)length * N, 0.0f);
#pragma omp parallel
    {
        std::vector<float> own((size_t)length * N * 2, 0.0f);
        float *own_b = own.data(), *own_c = own_b + (size_t)length * N;
        std::vector<vec> past(CHUNK * N);
        vec steps[CHUNK], inner[CHUNK];
#pragma omp for schedule(static)
        for (int d = 0; d < channels; d += 16) {
            vec a[N], gh[N], g_a[N], h[N], g_skip = (vec){}, g_shift = (vec){};
            for (int n = 0; n < N; ++n) {
                a[n] = load(A + n * channels + d);
                gh[n] = g_a[n] = (vec){};
            }
            const vec shift = load(bias + d), skip = load(D + d);
            for (int c = chunks - 1; c >= 0; --c) {
                const int begin = c * CHUNK, end = std::min(begin + CHUNK, length);
                for (int n = 0; n < N; ++n) h[n] = load(states + ((size_t)c * N + n) * channels + d);
                for (int t = begin; t < end; ++t) {
                    const size_t at = (size_t)t * channels + d;
                    const vec ut = load(u + at), dt = softplus(load(delta + at) + shift), x = dt * ut, dt2 = dt * LOG2E;
                    vec y = ut * skip;
#pragma GCC unroll 4
                    for (int n = 0; n < N; ++n) {
                        past[(t - begin) * N + n] = h[n];
                        h[n] = exp2v(dt2 * a[n]) * h[n] + x * B[(size_t)t * N + n];
                        y += h[n] * C[(size_t)t * N + n];
                    }
                    steps[t - begin] = dt;
                    inner[t - begin] = y;
                }
                for (int t = end - 1; t >= begin; --t) {
                    const size_t at = (size_t)t * channels + d, row = (size_t)t * N;
                    const vec ut = load(u + at), dt = steps[t - begin], x = dt * ut, dt2 = dt * LOG2E;
                    const vec zt = load(z + at), s = sigmoid(zt), outer = load(gy + at), g = outer * zt * s;
                    store(gz + at, outer * inner[t - begin] * s * (1.0f + zt * (1.0f - s)));
                    g_skip += g * ut;
                    vec gx = (vec){}, gdt = (vec){}, for_b[N], for_c[N];
#pragma GCC unroll 4
                    for (int n = 0; n < N; ++n) {
                        const vec decay = exp2v(dt2 * a[n]), faded = decay * past[(t - begin) * N + n];
                        for_c[n] = g * (faded + x * B[row + n]);
                        gh[n] += g * C[row + n];
                        for_b[n] = gh[n] * x;
                        gx += gh[n] * B[row + n];
                        const vec of_exp = gh[n] * faded;
                        gdt += of_exp * a[n];
                        g_a[n] += of_exp * dt;
                        gh[n] *= decay;
                    }
                    store(own_b + row, load(own_b + row) + sums(for_b));
                    store(own_c + row, load(own_c + row) + sums(for_c));
                    store(gu + at, g * skip + gx * dt);
                    gdt = (gdt + gx * ut) * sigmoid(load(delta + at) + shift);
                    g_shift += gdt;
                    store(gdelta + at, gdt);
                }
            }
            store(gD + d, g_skip);
            store(gbias + d, g_shift);
            for (int n = 0; n < N; ++n) store(gA + n * channels + d, g_a[n]);
        }
#pragma omp critical
        for (size_t i = 0; i < (size_t)length * N; ++i) {
            gB[i] += own_b[i];
            gC[i] += own_c[i];
        }
    }
}
