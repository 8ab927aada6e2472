// Screening: an 8-bit product says which pairs cannot be chosen; all others are computed in 32 bits and chosen among exactly.
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
#include <vector>

#include "int8.h"
#include "select.h"

constexpr int64_t BLOCK_ROWS = 22 * GROUP;  // rows that pass over the latents together
constexpr int64_t TRIAL_ROWS = 3 * GROUP;   // the same among the first ones
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
    std::vector<int8_t> panels;                      // [panel][quad][64][4]
    std::vector<float> scale, base, length, rest;    // t; m . w + level; |w|; |rest_w|
    std::vector<float> slack, taken_off;             // the rounding of base; 128 sum_j v_j
    std::vector<float> outlier;                      // [n_outliers][padded]
    bool finite = true;
};

inline Encoder make_encoder(const Problem& p, int threads) {
    Encoder e;
    e.quads = (p.n + 3) / 4;
    e.padded = (p.F + PANEL - 1) / PANEL * PANEL;
    e.panels.resize(e.padded * e.quads * 4);
    for (auto* each : {&e.scale, &e.base, &e.length, &e.rest, &e.slack, &e.taken_off}) each->resize(e.padded);
    e.outlier.resize(p.n_outliers * e.padded);
    int not_finite = 0;
#pragma omp parallel num_threads(threads) reduction(+ : not_finite)
    {
        std::vector<float> row(p.n);
        std::vector<int8_t> q(4 * e.quads, 0);
#pragma omp for schedule(static)
        for (int64_t i = 0; i < e.padded; ++i) {
            if (i >= p.F) {
                e.base[i] = NAN;  // no latent: above nothing
                continue;
            }
            const float* w = p.W + i * p.n;
            std::copy(w, w + p.n, row.begin());
            for (int64_t o = 0; o < p.n_outliers; ++o) {
                e.outlier[o * e.padded + i] = w[p.outliers[o]];
                row[p.outliers[o]] = 0;
            }
            const Rounded rounded = round_row(row.data(), p.n, q.data());
            int8_t* panel = e.panels.data() + (i / PANEL) * e.quads * 4 * PANEL + 4 * (i % PANEL);
            int32_t total = 0;
            for (int64_t j = 0; j < e.quads; ++j) {
                std::memcpy(panel + 4 * PANEL * j, q.data() + 4 * j, 4);
                total += q[4 * j] + q[4 * j + 1] + q[4 * j + 2] + q[4 * j + 3];
            }
            const float offset = dot(p.middle, w, p.n), level = p.rule.level[i];
            e.scale[i] = rounded.scale;
            e.base[i] = p.rule.kind == ABOVE ? offset - level : offset + level;
            e.length[i] = MORE * std::sqrt(dot(w, w, p.n));
            e.rest[i] = MORE * rounded.rest;
            e.slack[i] = 1e-6f * (std::fabs(offset) + std::fabs(level));
            e.taken_off[i] = 128.0f * total;
            not_finite += !std::isfinite(e.base[i]) || !std::isfinite(e.length[i]);
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

struct Candidate {
    float upper;  // the largest key that the pair can have
    int32_t latent;
};

// What is known of one row while the latents pass by.
struct Search {
    Query query;
    std::vector<Candidate> found;
    float bar;        // only pairs whose upper end exceeds it can be chosen
    float kth;        // the k-th key, once it is known
    size_t full;      // number of candidates at which they are thinned out
    bool guessed;     // whether the bar is a guess
    bool handed_back;
};

inline float width_of(const Encoder& e, const Query& q, int64_t i) {
    return q.rest * e.length[i] + q.length * e.rest[i] + e.slack[i];
}

inline float lower_end(const Encoder& e, const Query& q, const Candidate& c) {
    return c.upper - 2 * width_of(e, q, c.latent) - 1e-6f * std::fabs(c.upper);
}

// k candidates reach the k-th largest lower end for certain: drop those that cannot.
inline void thin_out(const Encoder& e, const Problem& p, Search& s, std::vector<float>& lower) {
    const int64_t k = p.rule.k;
    if (p.rule.kind == TOP && static_cast<int64_t>(s.found.size()) > k) {
        lower.clear();
        for (const auto& c : s.found) lower.push_back(lower_end(e, s.query, c));
        std::nth_element(lower.begin(), lower.begin() + (k - 1), lower.end(), std::greater<float>());
        s.bar = std::max(s.bar, std::nextafter(lower[k - 1], -INFINITY));  // equal to it may still be a tie
        s.found.erase(std::remove_if(s.found.begin(), s.found.end(), [&](const auto& c) { return !(c.upper > s.bar); }),
                      s.found.end());
    }
    if (static_cast<int64_t>(s.found.size()) > p.most) {
        s.handed_back = true;
        s.found.clear();
        s.bar = INFINITY;
    }
    s.full = std::max(s.full, 2 * s.found.size());
}

// The upper ends of one row's keys in a panel, and those above the bar into `found`.
inline void look_at(const Encoder& e, const Problem& p, int64_t first, const int32_t* product, Search& s,
                    std::vector<float>& lower) {
    const Query& q = s.query;
    float upper[PANEL], bar[16];
    const float *scale = e.scale.data() + first, *base = e.base.data() + first, *taken_off = e.taken_off.data() + first;
    const float *length = e.length.data() + first, *rest = e.rest.data() + first, *slack = e.slack.data() + first;
#pragma omp simd
    for (int64_t c = 0; c < PANEL; ++c)
        upper[c] = q.scale * scale[c] * (static_cast<float>(product[c]) - taken_off[c]) + base[c];
    for (int64_t o = 0; o < p.n_outliers; ++o) add_scaled(upper, q.outlier[o], e.outlier.data() + o * e.padded + first, PANEL);
    if (p.rule.is_signed)
        for (int64_t c = 0; c < PANEL; ++c) upper[c] = std::fabs(upper[c]);
#pragma omp simd
    for (int64_t c = 0; c < PANEL; ++c) upper[c] += q.rest * length[c] + q.length * rest[c] + slack[c];
    for (int64_t c = 0; c < PANEL; c += 16) {
        std::fill(bar, bar + 16, s.bar);
        each_above(upper + c, bar, c, 16, [&](int64_t at) {
            s.found.push_back({upper[at], static_cast<int32_t>(first + at)});
        });
        if (s.found.size() >= s.full) thin_out(e, p, s, lower);
    }
}

// The exact choice among the candidates of one row. False where it is not certain: the bar was a guess and turned out too high.
inline bool decide(const Encoder& e, const Problem& p, const float* x, Search& s, std::vector<Ranked<float>>& best, Row<float>& out) {
    auto& found = s.found;
    best.clear();
    auto compute = [&](size_t begin, size_t end) {
        float least = INFINITY;
        for (size_t at = begin; at < end; ++at) {
            if (at + 2 < end) prefetch(p.W + found[at + 2].latent * p.n, p.n);
            const int32_t i = found[at].latent;
            const float u = dot(x, p.W + i * p.n, p.n), key = p.rule.key(u, i);
            least = std::min(least, key);
            const bool chosen = p.rule.kind == ABOVE ? u > p.rule.level[i] : key > (p.rule.kind == TOP ? 0 : p.rule.floor);
            if (chosen) best.push_back({key, i, u});
        }
        return least;
    };
    const size_t k = p.rule.k;
    if (p.rule.kind == TOP && found.size() > k) {  // first the k most likely: the others must reach the least of them
        auto middle = [&](const Candidate& c) { return c.upper - width_of(e, s.query, c.latent); };
        std::nth_element(found.begin(), found.begin() + (k - 1), found.end(),
                         [&](const auto& a, const auto& b) { return middle(a) > middle(b); });
        const float reached = compute(0, k);
        found.erase(std::remove_if(found.begin() + k, found.end(), [&](const auto& c) { return c.upper < reached; }),
                    found.end());
        compute(k, found.size());
    } else {
        compute(0, found.size());
    }
    if (p.rule.kind == TOP) {
        keep_best(best, k);
        s.kth = best.size() < k ? 0 : std::min_element(best.begin(), best.end(), [](auto& a, auto& b) { return a.key < b.key; })->key;
        if (s.guessed && !(s.kth > s.bar)) return false;
    }
    put(best, out);
    return true;
}

// The rows `ids` against all latents. Scratch belongs to one thread.
struct Screen {
    const Problem& p;
    const Encoder& e;
    float middle_length;
    std::vector<uint8_t> q;
    std::vector<float> row, lower;
    std::vector<Search> searches;
    std::vector<Ranked<float>> best;

    Screen(const Problem& problem, const Encoder& encoder)
        : p(problem), e(encoder), middle_length(std::sqrt(dot(problem.middle, problem.middle, problem.n))),
          q(BLOCK_ROWS * 4 * encoder.quads, 0), row(problem.n), searches(BLOCK_ROWS) {}

    // With a guess, a row's search begins at guess * (its length): rows where that was too high are searched again without.
    // per_length[r], if wanted: the k-th key of row r over its length. Returns how many rows are handed back.
    int64_t rows(const int64_t* ids, int64_t count, float guess, Pairs<float>& out, uint8_t* handed_back, float* per_length) {
        const int64_t bytes = 4 * e.quads;
        for (int64_t r = 0; r < count; ++r) {
            Search& s = searches[r];
            s.query = make_query(p, p.x + ids[r] * p.stride, middle_length, row.data(), q.data() + r * bytes);
            s.found.clear();
            s.guessed = guess > 0;
            s.handed_back = !s.query.usable;
            s.bar = s.handed_back ? INFINITY : p.rule.kind == FLOOR ? p.rule.floor : guess * s.query.whole;
            s.full = p.rule.kind == TOP && !s.guessed ? 4 * p.rule.k + 64 : p.most + 1;
        }
        int32_t tile[GROUP][PANEL];
        for (int64_t i = 0; i < e.padded; i += PANEL)
            for (int64_t r = 0; r < count; r += GROUP) {
                const int64_t n = std::min(GROUP, count - r);
                product_of(n, q.data() + r * bytes, bytes, e.panels.data() + i * bytes, e.quads, tile);
                for (int64_t t = 0; t < n; ++t) look_at(e, p, i, tile[t], searches[r + t], lower);
            }
        int64_t n_back = 0;
        std::vector<int64_t> again;
        for (int64_t r = 0; r < count; ++r) {
            Search& s = searches[r];
            if (!s.handed_back && !s.guessed) thin_out(e, p, s, lower);
            handed_back[ids[r]] = s.handed_back;
            if (!s.handed_back && !decide(e, p, p.x + ids[r] * p.stride, s, best, out.rows[ids[r]])) again.push_back(ids[r]);
            n_back += s.handed_back;
            if (per_length) per_length[r] = s.handed_back ? 0 : s.kth / s.query.whole;
        }
        if (!again.empty()) n_back += rows(again.data(), static_cast<int64_t>(again.size()), 0, out, handed_back, nullptr);
        return n_back;
    }
};

// Choose in all rows that screening can decide. handed_back[b] = 1 for the others; returns their number. A few rows go first: where
// most of them cannot be decided, or W is not finite, all others are handed back as well; and they tell where the search of the
// others may begin. Both depend on the numbers alone.
inline int64_t screen(const Problem& p, Pairs<float>& out, uint8_t* handed_back, int threads) {
    const Encoder e = make_encoder(p, threads);
    std::vector<int64_t> ids(p.B);
    for (int64_t b = 0; b < p.B; ++b) ids[b] = b;
    const int64_t trial = e.finite ? std::min(p.B, 8 * TRIAL_ROWS) : 0, n_small = (trial + TRIAL_ROWS - 1) / TRIAL_ROWS;
    const int64_t n_blocks = (p.B - trial + BLOCK_ROWS - 1) / BLOCK_ROWS;
    std::vector<float> per_length(trial);
    int64_t n_trial = 0, n_back = 0;
    float guess = 0;
#pragma omp parallel num_threads(threads)
    {
        Screen scratch(p, e);
#pragma omp for schedule(dynamic, 1) reduction(+ : n_trial)
        for (int64_t block = 0; block < n_small; ++block) {
            const int64_t first = block * TRIAL_ROWS, count = std::min(TRIAL_ROWS, trial - first);
            n_trial += scratch.rows(ids.data() + first, count, 0, out, handed_back, per_length.data() + first);
        }
#pragma omp single
        if (p.rule.kind == TOP && trial > 0) {
            std::nth_element(per_length.begin(), per_length.begin() + trial / 32, per_length.end());
            guess = per_length[trial / 32];
        }
        const bool useless = !e.finite || 2 * n_trial > trial;
#pragma omp for schedule(dynamic, 1) reduction(+ : n_back)
        for (int64_t block = 0; block < n_blocks; ++block) {
            const int64_t first = trial + block * BLOCK_ROWS, count = std::min(BLOCK_ROWS, p.B - first);
            if (useless) std::fill(handed_back + first, handed_back + first + count, uint8_t{1});
            n_back += useless ? count : scratch.rows(ids.data() + first, count, guess, out, handed_back, nullptr);
        }
    }
    return n_trial + n_back;
}
