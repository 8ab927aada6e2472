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
constexpr int64_t PARTS = PANEL / 16;
constexpr int64_t GROUP = 6;  // rows of x against one panel at once

typedef Lanes<int32_t>::vector Ints;
typedef Lanes<float>::vector Floats;

// What is known of a rounded row besides its integers.
struct Rounded {
    float scale;    // 0 for a row of zeros; NaN where the row is not finite
    float length;   // of the rounded row scale * q
    float rest;     // length of what rounding left over
    int32_t total;  // sum_j q_j
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
        std::fill(q, q + n, int8_t{0});
        return {finite ? 0.0f : NAN, 0.0f, finite ? largest * std::sqrt(static_cast<float>(n)) : 0.0f, 0};
    }
    float length = 0, rest = 0;
    int32_t total = 0;
#pragma omp simd reduction(+ : length, rest, total)
    for (int64_t j = 0; j < n; ++j) {
        const float nearest = std::nearbyint(row[j] * inverse), left = row[j] - scale * nearest;
        q[j] = static_cast<int8_t>(nearest);
        length += nearest * nearest;
        rest += left * left;
        total += static_cast<int32_t>(nearest);
    }
    return {scale, scale * std::sqrt(length), std::sqrt(rest), total};
}

// each(r, sums) for GROUP rows of unsigned x, `stride` apart: sums[c] + sum_j x[r][j] * panel[.][.][j] for 16 latents each, over `quads` groups
// of four j, from sums[c] = start[c] on. The panel holds, for each group, four consecutive j of each of its 64 latents.
template <class Each>
inline void product(const uint8_t* x, int64_t stride, const int8_t* panel, int64_t quads, const int32_t* start, Each each) {
    Ints total[GROUP][PARTS];
#pragma GCC unroll 6
    for (int r = 0; r < GROUP; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < PARTS; ++c) total[r][c] = load(start + 16 * c);
    for (int64_t j = 0; j < quads; ++j) {
#if defined(__AVX512VNNI__)
        __m512i w[PARTS];
#pragma GCC unroll 4
        for (int c = 0; c < PARTS; ++c) w[c] = _mm512_loadu_si512(panel + 4 * PANEL * j + 64 * c);
#pragma GCC unroll 6
        for (int r = 0; r < GROUP; ++r) {
            int32_t four;
            std::memcpy(&four, x + r * stride + 4 * j, 4);
            const __m512i same = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int c = 0; c < PARTS; ++c)
                total[r][c] = reinterpret_cast<Ints>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(total[r][c]), same, w[c]));
        }
#else
        for (int r = 0; r < GROUP; ++r)
            for (int c = 0; c < PANEL; ++c)
                for (int t = 0; t < 4; ++t)
                    total[r][c / 16][c % 16] += static_cast<int32_t>(x[r * stride + 4 * j + t]) * panel[4 * (PANEL * j + c) + t];
#endif
    }
#pragma GCC unroll 6
    for (int r = 0; r < GROUP; ++r) each(r, total[r]);
}
