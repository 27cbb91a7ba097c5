"""The bodies of the selective scan for CUDA; `selective_scan_cuda.py` launches them and says how they fit together.

`CHANNELS` neighbouring threads have neighbouring channels of one chunk of `T` steps, and all their states in registers. Rows
are addressed by their distance, in 64 bits. Steps beyond the end of the sequence have dt = 0 and change no state.
"""

from mvgamba.kernels.warp_blocks import PRELUDE

T = 32
"""Steps in a chunk."""
SUB = 8
"""Steps whose states the gradient holds in registers at a time."""
CHANNELS = 128
"""Channels, and threads, of a block; in the last kernel of the gradient 32 channels with four threads each."""

_HEAD = (
    PRELUDE
    + f"""
    constexpr int NS = @STATES@, T = {T}, SUB = {SUB}, CHANNELS = {CHANNELS};
    const float LOG2E = 1.44269504088896341f;
    const int chunks = (length + T - 1) / T;
"""
    + """
    auto sigmoid = [&](float x) { return 1.0f / (1.0f + exp2_fast(x * -LOG2E)); };
    // max(x, 0) + log1p(exp(-|x|)), log1p(e) = 2 atanh(e / (2 + e)): no logarithm, and all digits for small steps.
    auto softplus = [&](float x) {
        const float e = exp2_fast((x < 0.0f ? x : -x) * LOG2E), s = e / (e + 2.0f), q = s * s;
        float p = 1.0f / 15.0f;
        p = p * q + 1.0f / 13.0f;
        p = p * q + 1.0f / 11.0f;
        p = p * q + 1.0f / 9.0f;
        p = p * q + 1.0f / 7.0f;
        p = p * q + 1.0f / 5.0f;
        p = p * q + 1.0f / 3.0f;
        p = p * q + 1.0f;
        return (x < 0.0f ? 0.0f : x) + 2.0f * s * p;
    };
    (void)sigmoid; (void)softplus;
"""
)

_PLACE = """
    const int groups = (channels + CHANNELS - 1) / CHANNELS;
    const int group = block % groups, chunk = block / groups % chunks, b = block / groups / chunks;
    const int d = group * CHANNELS + THREAD;
    const bool live = d < channels;
    const int count = length - chunk * T < T ? length - chunk * T : T;
    const size_t row = (size_t)b * length + (size_t)chunk * T, place = (size_t)b * chunks + chunk;
    const float bias = live ? delta_bias.data[d] : 0.0f;
    float a[NS];
    #pragma unroll
    for (int n = 0; n < NS; ++n) a[n] = live ? A.data[(size_t)n * channels + d] * LOG2E : 0.0f;
"""

LOCAL = (
    _HEAD
    + _PLACE
    + """
    BLOCK_SHARED float rows_b[T * NS];
    for (int i = THREAD; i < count * NS; i += CHANNELS) rows_b[i] = B.data[(row + i / NS) * b_row + i % NS];
    BLOCK_SYNC();
    float h[NS], elapsed = 0.0f;
    #pragma unroll
    for (int n = 0; n < NS; ++n) h[n] = 0.0f;
    for (int t = 0; live && t < count; ++t) {
        float dt = delta.data[(row + t) * delta_row + d] + bias;
        if (use_softplus) dt = softplus(dt);
        const float x = dt * u.data[(row + t) * u_row + d];
        elapsed += dt;
        #pragma unroll
        for (int n = 0; n < NS; ++n) h[n] = exp2_fast(dt * a[n]) * h[n] + x * rows_b[t * NS + n];
    }
    if (live) {
        total.data[place * channels + d] = elapsed;
        #pragma unroll
        for (int n = 0; n < NS; ++n) ends.data[(place * NS + n) * channels + d] = h[n];
    }
"""
)
"""Every chunk from a zero state: the state at its end, and the time that passes in it."""

CARRY = (
    _HEAD
    + """
    const size_t i = (size_t)block * CHANNELS + THREAD, per_batch = (size_t)NS * channels;
    if (i < batch * per_batch) {
        const size_t b = i / per_batch, at = i % per_batch, d = at % channels;
        const float a = A.data[at] * LOG2E;
        float state = first.data[i];
        for (int begin = 0; begin < chunks; begin += 8) {
            float end[8], dt[8];  // read together: the reads do not wait for the recurrence
            #pragma unroll
            for (int j = 0; j < 8; ++j) {
                const int k = reverse ? chunks - 1 - begin - j : begin + j;
                const bool there = begin + j < chunks;
                end[j] = there ? ends.data[(b * chunks + k) * per_batch + at] : 0.0f;
                dt[j] = there ? total.data[(b * chunks + k) * channels + d] : 0.0f;
            }
            #pragma unroll
            for (int j = 0; j < 8; ++j) {
                const int k = reverse ? chunks - 1 - begin - j : begin + j;
                if (begin + j < chunks) {
                    ends.data[(b * chunks + k) * per_batch + at] = state;
                    state = exp2_fast(dt[j] * a) * state + end[j];
                }
            }
        }
        last.data[i] = state;
    }
"""
)
"""What leaves each chunk becomes what enters it, forward in time or (for the gradient) backward."""

APPLY = (
    _HEAD
    + _PLACE
    + """
    BLOCK_SHARED float rows_b[T * NS];
    BLOCK_SHARED float rows_c[T * NS];
    for (int i = THREAD; i < count * NS; i += CHANNELS) {
        rows_b[i] = B.data[(row + i / NS) * b_row + i % NS];
        rows_c[i] = C.data[(row + i / NS) * c_row + i % NS];
    }
    BLOCK_SYNC();
    float h[NS];
    #pragma unroll
    for (int n = 0; n < NS; ++n) h[n] = live ? ends.data[(place * NS + n) * channels + d] : 0.0f;
    const float skip = live ? D.data[d] : 0.0f;
    for (int t = 0; live && t < count; ++t) {
        float dt = delta.data[(row + t) * delta_row + d] + bias;
        if (use_softplus) dt = softplus(dt);
        const float ut = u.data[(row + t) * u_row + d], x = dt * ut;
        float sum = ut * skip;
        #pragma unroll
        for (int n = 0; n < NS; ++n) {
            h[n] = exp2_fast(dt * a[n]) * h[n] + x * rows_b[t * NS + n];
            sum += h[n] * rows_c[t * NS + n];
        }
        if (has_z) {
            const float zt = z.data[(row + t) * z_row + d];
            sum *= zt * sigmoid(zt);
        }
        y.data[(row + t) * y_row + d] = sum;
    }
"""
)
"""Every chunk once more from the state that enters it, with its outputs."""

ADJOINT = (
    _HEAD
    + _PLACE
    + """
    BLOCK_SHARED float rows_c[T * NS];
    for (int i = THREAD; i < count * NS; i += CHANNELS) rows_c[i] = C.data[(row + i / NS) * c_row + i % NS];
    BLOCK_SYNC();
    float gh[NS];
    #pragma unroll
    for (int n = 0; n < NS; ++n) gh[n] = 0.0f;
    for (int t = count - 1; live && t >= 0; --t) {
        float dt = delta.data[(row + t) * delta_row + d] + bias, g = gy.data[(row + t) * channels + d];
        if (use_softplus) dt = softplus(dt);
        if (has_z) {
            const float zt = z.data[(row + t) * z_row + d];
            g *= zt * sigmoid(zt);
        }
        #pragma unroll
        for (int n = 0; n < NS; ++n) gh[n] = exp2_fast(dt * a[n]) * (gh[n] + g * rows_c[t * NS + n]);
    }
    if (live) {
        #pragma unroll
        for (int n = 0; n < NS; ++n) ends.data[(place * NS + n) * channels + d] = gh[n];
    }
"""
)
"""Every chunk backward in time from a zero gradient: the gradient of the state that enters it."""

GRADIENT = (
    _HEAD
    + """
    // Four warps share 32 channels, each with a quarter of the states: a lane is a channel, so the sums over channels stay
    // in a warp, and the sums over states go through shared memory.
    constexpr int Q = NS / 4, M = 2 * Q;
    BLOCK_SHARED float s_dt[T * 32];
    BLOCK_SHARED float s_u[T * 32];
    BLOCK_SHARED float s_g[T * 32];
    BLOCK_SHARED float rows_b[T * NS];
    BLOCK_SHARED float rows_c[T * NS];
    BLOCK_SHARED float part[3 * 4 * SUB * 32];
    const int lane = THREAD & 31, quarter = THREAD >> 5;
    const int groups = (channels + 31) / 32;
    const int group = block % groups, chunk = block / groups % chunks, b = block / groups / chunks;
    const int d = group * 32 + lane;
    const bool live = d < channels;
    const int count = length - chunk * T < T ? length - chunk * T : T;
    const size_t row = (size_t)b * length + (size_t)chunk * T, place = (size_t)b * chunks + chunk;
    const float bias = live ? delta_bias.data[d] : 0.0f, skip = live ? D.data[d] : 0.0f;
    for (int t = quarter; t < T; t += 4) {
        float dt = 0.0f, ut = 0.0f, g = 0.0f;
        if (live && t < count) {
            dt = delta.data[(row + t) * delta_row + d] + bias;
            if (use_softplus) dt = softplus(dt);
            ut = u.data[(row + t) * u_row + d];
            g = gy.data[(row + t) * channels + d];
            if (has_z) {
                const float zt = z.data[(row + t) * z_row + d];
                g *= zt * sigmoid(zt);
            }
        }
        s_dt[t * 32 + lane] = dt;
        s_u[t * 32 + lane] = ut;
        s_g[t * 32 + lane] = g;
    }
    for (int i = THREAD; i < T * NS; i += 128) {
        const bool there = i / NS < count;
        rows_b[i] = there ? B.data[(row + i / NS) * b_row + i % NS] : 0.0f;
        rows_c[i] = there ? C.data[(row + i / NS) * c_row + i % NS] : 0.0f;
    }
    float a[Q], h[Q], gh[Q], g_a[Q], starts[T / SUB][Q];
    #pragma unroll
    for (int q = 0; q < Q; ++q) {
        const size_t n = quarter * Q + q;
        a[q] = live ? A.data[n * channels + d] : 0.0f;
        h[q] = live ? ends.data[(place * NS + n) * channels + d] : 0.0f;
        gh[q] = live ? g_ends.data[(place * NS + n) * channels + d] : 0.0f;
        g_a[q] = 0.0f;
    }
    BLOCK_SYNC();
    #pragma unroll
    for (int s = 0; s < T / SUB; ++s) {
        #pragma unroll
        for (int q = 0; q < Q; ++q) starts[s][q] = h[q];
        for (int j = 0; j < SUB; ++j) {
            const int t = s * SUB + j;
            const float dt = s_dt[t * 32 + lane], x = dt * s_u[t * 32 + lane], dt2 = dt * LOG2E;
            #pragma unroll
            for (int q = 0; q < Q; ++q)
                h[q] = exp2_fast(dt2 * a[q]) * h[q] + x * rows_b[t * NS + quarter * Q + q];
        }
    }
    float g_skip = 0.0f, g_bias = 0.0f;
    #pragma unroll
    for (int s = T / SUB - 1; s >= 0; --s) {
        float past[SUB][Q];
        #pragma unroll
        for (int q = 0; q < Q; ++q) h[q] = starts[s][q];
        #pragma unroll
        for (int j = 0; j < SUB; ++j) {
            const int t = s * SUB + j;
            const float dt = s_dt[t * 32 + lane], x = dt * s_u[t * 32 + lane], dt2 = dt * LOG2E;
            float sum = 0.0f;
            #pragma unroll
            for (int q = 0; q < Q; ++q) {
                const int n = t * NS + quarter * Q + q;
                past[j][q] = exp2_fast(dt2 * a[q]) * h[q];  // the old state, faded
                h[q] = past[j][q] + x * rows_b[n];
                sum += h[q] * rows_c[n];
            }
            part[((2 * 4 + quarter) * SUB + j) * 32 + lane] = sum;
        }
        #pragma unroll
        for (int j = SUB - 1; j >= 0; --j) {
            const int t = s * SUB + j;
            const float dt = s_dt[t * 32 + lane], x = dt * s_u[t * 32 + lane], dt2 = dt * LOG2E;
            const float g = s_g[t * 32 + lane];
            float v[M], gx = 0.0f, g_dt = 0.0f;
            #pragma unroll
            for (int q = 0; q < Q; ++q) {
                const int n = t * NS + quarter * Q + q;
                v[Q + q] = g * (past[j][q] + x * rows_b[n]);
                gh[q] += g * rows_c[n];
                v[q] = gh[q] * x;
                gx += gh[q] * rows_b[n];
                const float of_exp = gh[q] * past[j][q];
                g_dt += of_exp * a[q];
                g_a[q] += of_exp * dt;
                gh[q] *= exp2_fast(dt2 * a[q]);
            }
            part[((0 * 4 + quarter) * SUB + j) * 32 + lane] = gx;
            part[((1 * 4 + quarter) * SUB + j) * 32 + lane] = g_dt;
            // M sums over 32 lanes: as long as there are several, a lane gives half of them away and keeps the others.
            int mine = 0;
            #pragma unroll
            for (int o = 16, m = M; o > 0; o >>= 1, m = m > 1 ? m / 2 : 1) {
                if (m > 1) {
                    const bool upper = lane & o;
                    mine += upper ? m / 2 : 0;
                    #pragma unroll
                    for (int i = 0; i < m / 2; ++i) {
                        const float keep = upper ? v[i + m / 2] : v[i], give = upper ? v[i] : v[i + m / 2];
                        v[i] = keep + warp_xor(give, o);
                    }
                } else {
                    v[0] += warp_xor(v[0], o);
                }
            }
            if (t < count && (lane & (32 / M - 1)) == 0) {
                const size_t at = ((size_t)group * batch * length + row + t) * NS + quarter * Q;
                if (mine < Q) gB.data[at + mine] = v[0];
                else gC.data[at + mine - Q] = v[0];
            }
        }
        BLOCK_SYNC();
        for (int j = quarter; j < SUB; j += 4) {
            const int t = s * SUB + j;
            if (live && t < count) {
                float gx = 0.0f, g_dt = 0.0f, sum = 0.0f;
                #pragma unroll
                for (int w = 0; w < 4; ++w) {
                    gx += part[((0 * 4 + w) * SUB + j) * 32 + lane];
                    g_dt += part[((1 * 4 + w) * SUB + j) * 32 + lane];
                    sum += part[((2 * 4 + w) * SUB + j) * 32 + lane];
                }
                const float ut = s_u[t * 32 + lane], g = s_g[t * 32 + lane];
                g_dt += gx * ut;
                if (use_softplus) g_dt *= sigmoid(delta.data[(row + t) * delta_row + d] + bias);
                gu.data[(row + t) * channels + d] = g * skip + gx * s_dt[t * 32 + lane];
                gdelta.data[(row + t) * channels + d] = g_dt;
                if (has_z) {
                    const float zt = z.data[(row + t) * z_row + d], sz = sigmoid(zt);
                    const float outer = gy.data[(row + t) * channels + d];
                    gz.data[(row + t) * channels + d] = outer * (sum + ut * skip) * sz * (1.0f + zt * (1.0f - sz));
                }
                g_skip += g * ut;
                g_bias += g_dt;
            }
        }
        BLOCK_SYNC();
    }
    part[THREAD] = g_skip;
    part[128 + THREAD] = g_bias;
    BLOCK_SYNC();
    if (live) {
        #pragma unroll
        for (int q = 0; q < Q; ++q) gA.data[(place * NS + quarter * Q + q) * channels + d] = g_a[q];
        if (quarter < 2) {
            const float* p = part + quarter * 128 + lane;
            (quarter ? g_of_bias.data : gD.data)[place * channels + d] = p[0] + p[32] + p[64] + p[96];
        }
    }
"""
)
"""All gradients of a chunk, from the state that enters it and the gradient of the one that leaves it."""
