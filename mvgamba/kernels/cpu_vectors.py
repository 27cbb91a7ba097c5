"""Sixteen floats in clang's vector extensions, with exp, sigmoid and softplus: the head of native snippets for CPUs.

There is no vector libm in Warp's compiler. A module with such a snippet does not compile for CUDA, so that bodies for CPUs and
for CUDA stand in modules of their own.
"""

from typing import Any

from torch import Tensor

from mvgamba.kernels.warp_runtime import warp

LANES = 16

VECTORS = """
    #pragma clang fp contract(fast)
    typedef float vec __attribute__((vector_size(64)));
    typedef float vec_u __attribute__((vector_size(64), aligned(4)));
    typedef int ivec __attribute__((vector_size(64)));
    auto load = [](const float* p) -> vec { return *(const vec_u*)p; };
    auto store = [](float* p, vec v) { *(vec_u*)p = v; };
    // 2^x for x in [-126, 126], beyond that the ends (or 0 and infinity): n = round(x), a polynomial for 2^(x - n) on
    // [-1/2, 1/2] that is exact at 0 (minimax, relative error 9e-8 before rounding), and n added to the exponent.
    auto exp2v = [](vec x) -> vec {
    #if defined(__AVX512F__) && defined(__AVX512DQ__)
        const vec f = (vec)__builtin_ia32_reduceps512_mask(x, 0, x, (unsigned short)-1, 4), n = x - f;
    #else
        x = x < -126.0f ? (vec){} - 126.0f : x;  // in this order a NaN stays one
        x = x > 126.0f ? (vec){} + 126.0f : x;
        const vec shifted = x + 12582912.0f;
        const vec f = x - (shifted - 12582912.0f);
    #endif
        vec p = (vec){} + 1.3264727e-3f;
        p = p * f + 9.6715130e-3f;
        p = p * f + 5.5507337e-2f;
        p = p * f + 2.4022242e-1f;
        p = p * f + 6.9314698e-1f;
        p = p * f + 1.0f;
    #if defined(__AVX512F__) && defined(__AVX512DQ__)
        return (vec)__builtin_ia32_scalefps512_mask(p, n, p, (unsigned short)-1, 4);
    #else
        return (vec)((ivec)p + (((ivec)shifted) << 23));
    #endif
    };
    const float LOG2E = 1.44269504088896341f;
    auto sigmoid = [&](vec x) -> vec { return 1.0f / (1.0f + exp2v(x * -LOG2E)); };
    // max(x, 0) + log1p(exp(-|x|)), log1p(e) = 2 atanh(e / (2 + e)) with e <= 1: nine terms suffice for float32.
    auto softplus = [&](vec x) -> vec {
        const vec minus_abs = (vec)((ivec)x | (int)0x80000000);
        const vec e = exp2v(minus_abs * LOG2E);
        const vec s = e / (e + 2.0f), q = s * s;
        vec p = (vec){} + 1.0f / 15.0f;
        p = p * q + 1.0f / 13.0f;
        p = p * q + 1.0f / 11.0f;
        p = p * q + 1.0f / 9.0f;
        p = p * q + 1.0f / 7.0f;
        p = p * q + 1.0f / 5.0f;
        p = p * q + 1.0f / 3.0f;
        p = p * q + 1.0f;
        const vec positive = (vec)((ivec)x & ~((ivec)x >> 31));
        return positive + 2.0f * s * p;
    };
"""
"""Types `vec` and `ivec`; `load(p)` and `store(p, v)`, which ask for no alignment; `exp2v`, `sigmoid`, `softplus`; `LOG2E`."""


def addresses(tensors: list[Tensor]) -> list[Any]:
    """One Warp array for each float32 tensor that stands for its first element: snippets do their own strides.

    For every argument of a launch this costs 3 us; a strided array of Warp's costs four times as much.
    """
    wp = warp()
    return [
        wp.from_torch(t.as_strided((min(t.numel(), 1),), (1,)), dtype=wp.float32, return_ctype=True) for t in tensors
    ]


def as_rows(x: Tensor) -> tuple[Tensor, int]:
    """`x` of shape (batch, length, channels) and the distance of its rows in elements, copied only where it has to be.

    Row (b, t) lies at `(b * length + t) * distance`: a slice of the channels of a larger tensor is taken as it is.
    """
    batch, length, channels = x.shape
    dense = channels == 1 or x.stride(2) == 1
    if length == 1:
        distance = x.stride(0) if batch > 1 else channels
    else:
        distance = x.stride(1)
    if not (dense and channels <= distance < 2**31 and (batch == 1 or x.stride(0) == length * distance)):
        x, distance = x.contiguous(), channels
    return x, distance
