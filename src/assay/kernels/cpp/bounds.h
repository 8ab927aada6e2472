// What an 8-bit product leaves uncertain: both sides of x . w as integers, and how far the product of these may be from the truth.
//
// With m a common offset of the rows, o the few dimensions that are far larger than the rest (kept in 32 bits) and z = x - m:
//
//   x . w = m . w + z_o . w_o + z' . w'          z', w': the other dimensions
//   z' . w' = (s q) . (t v) + rest_z . w' + (s q) . rest_w
//   | z' . w' - s t (q . v) |  <=  |rest_z| |w'| + |s q| |rest_w|                      (Cauchy-Schwarz)
//
// Added to this bound are the roundings of 32-bit sums, at most (n + 40) 2^-23 (|z| + |m|) |w| for the product that decides and the
// one here together. A pair whose upper end lies below what k other pairs of its row reach for certain is not among the k largest.
// Rows with too many pairs that cannot be excluded are handed back, to be computed in full.
#pragma once
#include <algorithm>

#include "int8.h"
#include "select.h"

constexpr int64_t MOST_OUTLIERS = 16;
constexpr float MORE = 1.0001f;  // for lengths that were themselves rounded

struct Problem {
    const float* x;  // [B, n], rows `stride` apart
    int64_t B, n, stride;
    const float* W;  // [F, n]
    int64_t F;
    const float* middle;      // m [n]
    const int64_t* outliers;  // o [n_outliers]
    int64_t n_outliers;
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

// A row of x as integers, and what it adds to the bound.
struct Query {
    float scale, rest, length;  // s; |rest_z| with the rounding of sums; |s q|
    float whole;                // |z| + |m|
    float outlier[MOST_OUTLIERS];
    bool usable;
};

inline Query make_query(const Problem& p, const float* x, float middle_length, float* row, uint8_t* q) {
    Query query{};
    for (int64_t j = 0; j < p.n; ++j) row[j] = x[j] - p.middle[j];
    query.whole = std::sqrt(dot(row, row, p.n)) + middle_length;
    for (int64_t o = 0; o < p.n_outliers; ++o) {
        query.outlier[o] = row[p.outliers[o]];
        row[p.outliers[o]] = 0;
    }
    const Rounded rounded = round_row(row, p.n, reinterpret_cast<int8_t*>(q));
    for (int64_t j = 0; j < p.n; ++j) q[j] ^= 0x80;  // q + 128
    query.scale = rounded.scale;
    query.rest = MORE * (rounded.rest + query.whole * static_cast<float>(p.n + 40) / (1 << 23));
    query.length = MORE * rounded.length;
    query.usable = std::isfinite(query.scale) && std::isfinite(query.rest) && std::isfinite(query.whole);
    return query;
}
