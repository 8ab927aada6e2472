// Rows of numbers as 8-bit integers, and the product of a few such rows with 64 others.
//
//   a_j = scale * q_j + rest_j,   q_j in -127 .. 127
//
// The product needs one unsigned side: rows of x are stored as q + 128, and 128 * sum_j w_j is taken off the result.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "lanes.h"

constexpr int64_t PANEL = 64;  // latents side by side in memory
constexpr int64_t GROUP = 6;   // rows of x against one panel at once

// What is known of a rounded row besides its integers.
struct Rounded {
    float scale;   // 0 for a row of zeros; NaN where the row is not finite
    float length;  // of the rounded row scale * q
    float rest;    // length of what rounding left over
};

// q gets n integers in -127 .. 127.
inline Rounded round_row(const float* row, int64_t n, int8_t* q) {
    float largest = 0;
    int32_t strange = 0;
#pragma omp simd reduction(max : largest) reduction(| : strange)
    for (int64_t j = 0; j < n; ++j) {
        const float size = std::fabs(row[j]);
        largest = size > largest ? size : largest;
        strange |= !(size <= 3e38f);
    }
    const bool finite = !strange;
    const float scale = largest / 127, inverse = largest > 1e-30f ? 127 / largest : 0;
    if (!finite || inverse == 0) {
        for (int64_t j = 0; j < n; ++j) q[j] = 0;
        return {finite ? 0.0f : NAN, 0.0f, finite ? largest * std::sqrt(static_cast<float>(n)) : 0.0f};
    }
    float length = 0, rest = 0;
#pragma omp simd reduction(+ : length, rest)
    for (int64_t j = 0; j < n; ++j) {
        const float nearest = std::nearbyint(row[j] * inverse), left = row[j] - scale * nearest;
        q[j] = static_cast<int8_t>(nearest);
        length += nearest * nearest;
        rest += left * left;
    }
    return {scale, scale * std::sqrt(length), std::sqrt(rest)};
}

// out[r][c] = sum_j x[r][j] * panel[.][c][.] for R rows of unsigned x (`stride` apart), over `quads` groups of four j.
// The panel holds, for each group, four consecutive j of each of its 64 latents.
#if defined(__AVX512VNNI__)
template <int R>
inline void product(const uint8_t* x, int64_t stride, const int8_t* panel, int64_t quads, int32_t (*out)[PANEL]) {
    __m512i total[R][4];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < 4; ++c) total[r][c] = _mm512_setzero_si512();
    for (int64_t j = 0; j < quads; ++j) {
        const __m512i w0 = _mm512_loadu_si512(panel + 256 * j), w1 = _mm512_loadu_si512(panel + 256 * j + 64);
        const __m512i w2 = _mm512_loadu_si512(panel + 256 * j + 128), w3 = _mm512_loadu_si512(panel + 256 * j + 192);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            int32_t four;
            std::memcpy(&four, x + r * stride + 4 * j, 4);
            const __m512i same = _mm512_set1_epi32(four);
            total[r][0] = _mm512_dpbusd_epi32(total[r][0], same, w0);
            total[r][1] = _mm512_dpbusd_epi32(total[r][1], same, w1);
            total[r][2] = _mm512_dpbusd_epi32(total[r][2], same, w2);
            total[r][3] = _mm512_dpbusd_epi32(total[r][3], same, w3);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < 4; ++c) _mm512_storeu_si512(out[r] + 16 * c, total[r][c]);
}
#else
template <int R>
inline void product(const uint8_t* x, int64_t stride, const int8_t* panel, int64_t quads, int32_t (*out)[PANEL]) {
    for (int r = 0; r < R; ++r) {
        std::memset(out[r], 0, sizeof out[r]);
        for (int64_t j = 0; j < quads; ++j)
            for (int c = 0; c < PANEL; ++c)
                for (int t = 0; t < 4; ++t)
                    out[r][c] += static_cast<int32_t>(x[r * stride + 4 * j + t]) * panel[256 * j + 4 * c + t];
    }
}
#endif

// The same for any number of rows up to GROUP.
inline void product_of(int64_t n, const uint8_t* x, int64_t stride, const int8_t* panel, int64_t quads,
                       int32_t (*out)[PANEL]) {
    switch (n) {
        case 6: return product<6>(x, stride, panel, quads, out);
        case 5: return product<5>(x, stride, panel, quads, out);
        case 4: return product<4>(x, stride, panel, quads, out);
        case 3: return product<3>(x, stride, panel, quads, out);
        case 2: return product<2>(x, stride, panel, quads, out);
        default: return product<1>(x, stride, panel, quads, out);
    }
}
