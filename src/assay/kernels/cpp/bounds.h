// What an 8-bit product leaves uncertain: both sides of x . w as integers, and how far the product of these may be from the truth.
//
// With m a common offset of the rows, o the few dimensions that are far larger than the rest (kept in 32 bits) and z = x - m:
//
//   x . w = m . w + z_o . w_o + z' . w'          z', w': the other dimensions
//   z' . w' = (s q) . (t v) + rest_z . w' + (s q) . rest_w
//   | z' . w' - s t (q . v) |  <=  |rest_z| |w'| + |s q| |rest_w|                      (Cauchy-Schwarz)
//
// Rows that an encoder takes its bias b off, x = y - b, have the same z for every b: with m the offset of the y, z = y - m, and b only moves
// the number that stands for m . w to (m - b) . w. So the integers of a batch's rows serve every encoder that reads it.
//
// Added to this bound are the roundings of 32-bit sums and of x, z and m - b, at most (n + 44) 2^-23 (|z| + |m - b|) |w| for the product
// that decides and the one here together. A pair whose upper end lies below what k other pairs of its row reach for certain is not among the k largest.
// Rows with too many pairs that cannot be excluded are handed back, to be computed in full.
#pragma once
#include <algorithm>

#include "int8.h"
#include "select.h"

constexpr float MORE = 1.0001f;  // for lengths that were themselves rounded

// Rows as integers, and what each adds to the bound: written by `round_rows`, read by any number of encoders.
struct Queries {
    static constexpr int64_t NUMBERS = 4;  // of each row, before its outliers
    const uint8_t* q;                      // [B][4 * quads], q + 128; 128 where the row is filled up
    const float* numbers;                  // [B][NUMBERS + n_outliers]: s, |rest_z|, |s q|, |z|, z_o
};

struct Problem {
    const float* x;  // [B, n], rows `stride` apart
    int64_t B, n, stride;
    const float* W;  // [F, n]
    int64_t F;
    const float* middle;      // m - b [n]
    const int64_t* outliers;  // o [n_outliers]
    int64_t n_outliers;
    Queries queries;
    Rule<float> rule;
    int64_t most;  // candidates of a row beyond which it is handed back
};

// The encoder as integers, and what each latent adds to the bound. Latents are padded to whole panels.
struct Encoder {
    int64_t quads, padded;
    Array<int8_t> panels;                    // [panel][quad][64][4]
    Array<float> scale, base, length, rest;  // t; m . w + level; |w|; |rest_w|
    Array<float> slack;                      // the rounding of base
    Array<int32_t> start;                    // -128 sum_j v_j
    Array<float> outlier;                    // [n_outliers][padded]
    struct Most {
        float length, rest, slack;
    };
    Array<Most> most;  // of each panel
    bool finite = true;
};

inline Encoder make_encoder(const Problem& p, int threads) {
    Encoder e;
    e.quads = (p.n + 3) / 4;
    e.padded = (p.F + PANEL - 1) / PANEL * PANEL;
    e.panels.resize(e.padded * e.quads * 4);
    for (auto* each : {&e.scale, &e.base, &e.length, &e.rest, &e.slack}) each->resize(e.padded);
    e.start.resize(e.padded);
    e.outlier.resize(p.n_outliers * e.padded);
    e.most.resize(e.padded / PANEL);
    int not_finite = 0;
#pragma omp parallel num_threads(threads) reduction(+ : not_finite)
    {
        Array<float> row(p.n);
        Array<int8_t> q(PANEL * 4 * e.quads, 0);  // row by row
        int8_t* const from = q.data();
#pragma omp for schedule(static)
        for (int64_t panel = 0; panel < e.padded / PANEL; ++panel) {
            const int64_t first = panel * PANEL, n = std::min(PANEL, p.F - first);
            Encoder::Most most{};
            for (int64_t i = first; i < first + PANEL; ++i) {
                if (i >= p.F) {
                    e.base[i] = NAN;  // no latent: above nothing
                    continue;
                }
                const float *w = p.W + i * p.n, *inner = w;
                if (p.n_outliers > 0) {
                    std::copy(w, w + p.n, row.begin());
                    for (int64_t o = 0; o < p.n_outliers; ++o) {
                        e.outlier[o * e.padded + i] = w[p.outliers[o]];
                        row[p.outliers[o]] = 0;
                    }
                    inner = row.data();
                }
                if (i + 2 < p.F) prefetch(w + 2 * p.n, p.n);
                const Rounded rounded = round_row(inner, p.n, from + (i - first) * 4 * e.quads);
                const float offset = dot(p.middle, w, p.n), level = p.rule.level[i];
                e.scale[i] = rounded.scale;
                e.base[i] = p.rule.kind == ABOVE ? offset - level : offset + level;
                e.length[i] = MORE * std::sqrt(dot(w, w, p.n));
                e.rest[i] = MORE * rounded.rest;
                e.slack[i] = 1e-6f * (std::fabs(offset) + std::fabs(level));
                e.start[i] = -128 * rounded.total;
                most = {std::max(most.length, e.length[i]), std::max(most.rest, e.rest[i]), std::max(most.slack, e.slack[i])};
                not_finite += !std::isfinite(e.base[i]) || !std::isfinite(e.length[i]);
            }
            e.most[panel] = most;
            int8_t* to = e.panels.data() + 4 * first * e.quads;
            for (int64_t c = 0; c < n; ++c, to += 4)
                for (int64_t j = 0; j < e.quads; ++j) std::memcpy(to + 4 * PANEL * j, from + 4 * (c * e.quads + j), 4);
        }
    }
    e.finite = not_finite == 0;
    return e;
}

// Write what `Queries` reads, of rows y [B, n], `stride` apart, and their offset m. Numbers of rows that are not finite are not either.
inline void round_rows(const float* y, int64_t B, int64_t n, int64_t stride, const float* middle, const int64_t* outliers,
                       int64_t n_outliers, uint8_t* q, float* numbers, int threads) {
    const int64_t bytes = (n + 3) / 4 * 4;
#pragma omp parallel num_threads(threads)
    {
        Array<float> row(n);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < B; ++r) {
            float* const to = numbers + r * (Queries::NUMBERS + n_outliers);
            for (int64_t j = 0; j < n; ++j) row[j] = y[r * stride + j] - middle[j];
            to[3] = std::sqrt(dot(row.data(), row.data(), n));
            for (int64_t o = 0; o < n_outliers; ++o) {
                to[Queries::NUMBERS + o] = row[outliers[o]];
                row[outliers[o]] = 0;
            }
            const Rounded rounded = round_row(row.data(), n, reinterpret_cast<int8_t*>(q + r * bytes));
            for (int64_t j = 0; j < n; ++j) q[r * bytes + j] ^= 0x80;  // q + 128
            std::fill(q + r * bytes + n, q + (r + 1) * bytes, uint8_t{0x80});
            to[0] = rounded.scale;
            to[1] = rounded.rest;
            to[2] = MORE * rounded.length;
        }
    }
}

// A row for one encoder.
struct Query {
    float scale, rest, length;  // s; |rest_z| with the rounding of sums; |s q|
    float whole;                // |z| + |m - b|
    const float* outlier;       // z_o
    bool usable;
};

inline Query query_of(const Problem& p, int64_t id, float middle_length) {
    const float* const number = p.queries.numbers + id * (Queries::NUMBERS + p.n_outliers);
    Query query{number[0], 0, number[2], number[3] + middle_length, number + Queries::NUMBERS, false};
    query.rest = MORE * (number[1] + query.whole * static_cast<float>(p.n + 44) / (1 << 23));
    query.usable = std::isfinite(query.scale) && std::isfinite(query.rest) && std::isfinite(query.whole);
    return query;
}
