// Screening: an 8-bit product says which pairs cannot be chosen; all others are computed in 32 bits and chosen among exactly.
//
// A pair whose upper end (`bounds.h`) lies below what k other pairs of its row reach for certain is not among the k largest. Rows with
// too many pairs that cannot be excluded are handed back, to be computed in full. What is decided about a row depends on its own
// numbers and on the first rows of the batch alone, not on the rows that happen to pass with it.
#pragma once
#include <cfloat>

#include "bounds.h"
#include "rank.h"
#include "rescore.h"

constexpr int64_t MOST_ROWS = 512;   // that pass over the latents together: what is known of them should stay in cache
constexpr int64_t TRIAL_ROWS = 48;   // the same among the first ones
constexpr int64_t N_TRIALS = 2;
constexpr float SHORT_OF = 0.95f;    // of the level that nearly all first rows reach, so that few rows are searched twice
constexpr int64_t MORE_THAN_K = 8;   // pairs that are computed first, to know what k pairs reach
constexpr int LOOSE = 8;             // bits of a level that need not be exact

// What is known of one row while the latents pass by, and its candidates, latents ascending.
struct Search {
    Query query;
    std::vector<int32_t> latent;
    std::vector<float> upper, u;  // the largest key that each can have; u in 32 bits, NaN until it is computed
    std::vector<int32_t> asked;   // the candidates that were computed first
    int64_t n;                    // candidates
    int64_t full;                 // at which they are thinned out
    float bar;                    // only pairs whose upper end exceeds it can be chosen
    float kth;                    // the k-th key, once it is known
    bool guessed;                 // whether the bar is a guess
    bool handed_back;
};

// k candidates reach the k-th largest lower end for certain: drop those that cannot.
inline void thin_out(const Encoder& e, const Problem& p, Search& s, std::vector<float>& lower, std::vector<int32_t>& ordered) {
    const int64_t k = p.rule.k;
    if (p.rule.kind == TOP && s.n > k) {
        lower.resize(s.n);
        for (int64_t c = 0; c < s.n; ++c) {
            const float end = s.upper[c] - 2 * width_of(e, s.query, s.latent[c]) - 1e-6f * std::fabs(s.upper[c]);
            lower[c] = std::max(-FLT_MAX, end);
        }
        const float reached = kth_largest(lower.data(), s.n, k, ordered);
        s.bar = std::max(s.bar, std::nextafter(reached, -INFINITY));  // equal to it may still be a tie
        int64_t kept = 0;
        for (int64_t c = 0; c < s.n; ++c)
            if (s.upper[c] > s.bar) {
                s.latent[kept] = s.latent[c];
                s.upper[kept++] = s.upper[c];
            }
        s.n = kept;
    }
    if (s.n > p.most) {
        s.handed_back = true;
        s.n = 0;
        s.bar = INFINITY;
    }
    s.full = std::max(s.full, 2 * s.n);
}

// The upper ends of one row's keys in a panel; those above the bar become candidates.
inline void look_at(const Encoder& e, const Problem& p, int64_t first, const int32_t* product, Search& s) {
    typedef Lanes<float>::vector Floats;
    typedef Lanes<int32_t>::vector Ints;
    const Ints ascending = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    if (static_cast<int64_t>(s.latent.size()) < s.n + 2 * PANEL) {
        s.latent.resize(2 * s.n + 4 * PANEL);
        for (auto* each : {&s.upper, &s.u}) each->resize(s.latent.size());
    }
    const float *scale = e.scale.data() + first, *base = e.base.data() + first, *slack = e.slack.data() + first;
    const float *length = e.length.data() + first, *rest = e.rest.data() + first, *outlier = e.outlier.data() + first;
    const int32_t* taken_off = e.taken_off.data() + first;
    const float s_ = s.query.scale, rest_ = s.query.rest, length_ = s.query.length;
    float bar[16], end[16], *to = s.upper.data() + s.n;
    int32_t* latent = s.latent.data() + s.n;
    std::fill(bar, bar + 16, s.bar);
    for (int64_t c = 0; c < PANEL; c += 16) {
        const Ints whole = load(product + c) - load(taken_off + c);
        Floats upper = s_ * load(scale + c) * __builtin_convertvector(whole, Floats) + load(base + c);
        for (int64_t o = 0; o < p.n_outliers; ++o) upper += s.query.outlier[o] * load(outlier + o * e.padded + c);
        if (p.rule.is_signed) upper = upper < 0 ? -upper : upper;
        upper += rest_ * load(length + c) + length_ * load(rest + c) + load(slack + c);
        store(end, upper);
        const uint32_t bits = greater16(end, bar);
        pack16(upper, bits, to);
        pack16(ascending + static_cast<int32_t>(first + c), bits, latent);
        to += __builtin_popcount(bits);
        latent += __builtin_popcount(bits);
    }
    s.n = to - s.upper.data();
}

// The rows `ids` against all latents. Scratch belongs to one thread.
struct Screen {
    const Problem& p;
    const Encoder& e;
    float middle_length;
    std::vector<uint8_t> q;
    std::vector<float> row, some;
    std::vector<int32_t> ordered;
    std::vector<const float*> x;
    std::vector<Search> searches;
    Rescore rescore;

    Screen(const Problem& problem, const Encoder& encoder)
        : p(problem), e(encoder), middle_length(std::sqrt(dot(problem.middle, problem.middle, problem.n))), row(problem.n) {}

    // With a guess, a row's search begins at guess * (its length): rows where that was too high are searched again without.
    // per_length[r], if wanted: the k-th key of row r over its length. Returns how many rows are handed back.
    int64_t rows(const int64_t* ids, int64_t count, float guess, Pairs<float>& out, uint8_t* handed_back, float* per_length) {
        if (static_cast<int64_t>(searches.size()) < count) searches.resize(count);
        q.resize(std::max(q.size(), static_cast<size_t>(count * 4 * e.quads)));
        x.resize(count);
        for (int64_t r = 0; r < count; ++r) begin(r, p.x + ids[r] * p.stride, guess);
        sweep(count);
        for (int64_t r = 0; r < count; ++r) ask_first(r);
        rescore.answer(x, p.W, p.F, p.n);
        if (p.rule.kind == TOP) {
            for (int64_t r = 0; r < count; ++r) ask_others(r);
            rescore.answer(x, p.W, p.F, p.n);
        }
        int64_t n_back = 0;
        std::vector<int64_t> again;
        for (int64_t r = 0; r < count; ++r) {
            const Search& s = searches[r];
            handed_back[ids[r]] = s.handed_back;
            n_back += s.handed_back;
            if (!s.handed_back && !decide(r, out.rows[ids[r]])) again.push_back(ids[r]);
            if (per_length) per_length[r] = s.handed_back ? 0 : s.kth / s.query.whole;
        }
        if (!again.empty()) n_back += rows(again.data(), static_cast<int64_t>(again.size()), 0, out, handed_back, nullptr);
        return n_back;
    }

  private:
    void begin(int64_t r, const float* from, float guess) {
        Search& s = searches[r];
        x[r] = from;
        s.query = make_query(p, from, middle_length, row.data(), q.data() + r * 4 * e.quads);
        s.n = 0;
        s.guessed = guess > 0;
        s.handed_back = !s.query.usable;
        s.bar = s.handed_back ? INFINITY : p.rule.kind == FLOOR ? p.rule.floor : guess * s.query.whole;
        s.full = p.rule.kind == TOP && !s.guessed ? 4 * p.rule.k + 64 : p.most + 1;
    }

    void sweep(int64_t count) {
        const int64_t bytes = 4 * e.quads;
        int32_t tile[GROUP][PANEL];
        for (int64_t i = 0; i < e.padded; i += PANEL)
            for (int64_t r = 0; r < count; r += GROUP) {
                const int64_t n = std::min(GROUP, count - r);
                product_of(n, q.data() + r * bytes, bytes, e.panels.data() + i * bytes, e.quads, tile);
                for (int64_t t = 0; t < n; ++t) {
                    Search& s = searches[r + t];
                    look_at(e, p, i, tile[t], s);
                    if (s.n >= s.full) thin_out(e, p, s, some, ordered);
                }
            }
    }

    // For TOP the k pairs that are most likely the largest and a few more, else all candidates.
    void ask_first(int64_t r) {
        Search& s = searches[r];
        if (!s.handed_back && !s.guessed) thin_out(e, p, s, some, ordered);
        some.resize(s.n);
        s.asked.resize(s.n);
        for (int64_t c = 0; c < s.n; ++c) some[c] = std::max(-FLT_MAX, s.upper[c] - width_of(e, s.query, s.latent[c]));
        const int64_t first = p.rule.kind == TOP ? std::min(s.n, p.rule.k + MORE_THAN_K) : s.n;
        const float cut = first < s.n ? kth_largest(some.data(), s.n, first, ordered, LOOSE) : -FLT_MAX;
        int64_t n = 0;
        for (int64_t c = 0; c < s.n; ++c) {  // no branch: which way it goes cannot be foreseen
            s.u[c] = NAN;
            s.asked[n] = static_cast<int32_t>(c);
            n += some[c] >= cut;
        }
        s.asked.resize(n);
        ask(r);
    }

    // Those that may be as large as the k-th of the pairs that are known.
    void ask_others(int64_t r) {
        Search& s = searches[r];
        if (static_cast<int64_t>(s.asked.size()) == s.n) return s.asked.clear();
        some.clear();
        for (const int32_t c : s.asked) some.push_back(key_of(s, c));
        const float reached = kth_largest(some.data(), some.size(), p.rule.k, ordered, LOOSE);
        s.asked.resize(s.n);
        int64_t n = 0;
        for (int64_t c = 0; c < s.n; ++c) {
            s.asked[n] = static_cast<int32_t>(c);
            n += (s.upper[c] >= reached) & std::isnan(s.u[c]);
        }
        s.asked.resize(n);
        ask(r);
    }

    void ask(int64_t r) {
        Search& s = searches[r];
        for (const int32_t c : s.asked) rescore.ask(r, s.latent[c], &s.u[c]);
    }

    // Where u is not known or not a number, nothing can be smaller.
    float key_of(const Search& s, int64_t c) const { return std::max(-FLT_MAX, p.rule.key(s.u[c], s.latent[c])); }

    // The choice among the candidates of one row. False where it is not certain: the bar was a guess and turned out too high.
    bool decide(int64_t r, Row<float>& out) {
        Search& s = searches[r];
        const int64_t k = p.rule.k;
        some.resize(s.n);
        float cut = p.rule.kind == FLOOR ? p.rule.floor : 0;
        if (p.rule.kind == ABOVE) {
            for (int64_t c = 0; c < s.n; ++c) some[c] = s.u[c] > p.rule.level[s.latent[c]] ? 1 : 0;
        } else {
            for (int64_t c = 0; c < s.n; ++c) some[c] = key_of(s, c);
        }
        s.kth = p.rule.kind == TOP && s.n >= k ? std::max(0.0f, kth_largest(some.data(), s.n, k, ordered)) : 0;
        if (s.guessed && !(s.kth > s.bar)) return false;
        int64_t ties = 0;  // of those equal to the cut so many are chosen, from the lowest latent on
        if (s.kth > 0) {
            cut = s.kth;
            ties = k - std::count_if(some.begin(), some.end(), [&](float key) { return key > cut; });
        }
        out.latent.resize(s.n);
        out.value.resize(s.n);
        int64_t n = 0;
        for (int64_t c = 0; c < s.n; ++c) {
            const bool tie = some[c] == cut && ties > 0;
            out.latent[n] = s.latent[c];
            out.value[n] = s.u[c];
            n += (some[c] > cut) | tie;
            ties -= tie;
        }
        out.latent.resize(n);
        out.value.resize(n);
        return true;
    }
};

// Choose in all rows that screening can decide. handed_back[b] = 1 for the others; returns their number. A few rows go first: where
// most of them cannot be decided, or W is not finite, all others are handed back as well; and they tell where the search of the
// others may begin. Both depend on the numbers alone.
inline int64_t screen(const Problem& p, Pairs<float>& out, uint8_t* handed_back, int threads) {
    const Encoder e = make_encoder(p, threads);
    std::vector<int64_t> ids(p.B);
    for (int64_t b = 0; b < p.B; ++b) ids[b] = b;
    const int64_t trial = e.finite ? std::min(p.B, N_TRIALS * TRIAL_ROWS) : 0, n_small = (trial + TRIAL_ROWS - 1) / TRIAL_ROWS;
    const int64_t others = p.B - trial, rounds = (others + MOST_ROWS * threads - 1) / (MOST_ROWS * threads);
    const int64_t n_blocks = std::min(others, rounds * threads);  // of equal size, as many for each thread
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
            guess = SHORT_OF * per_length[trial / 32];
        }
        const bool useless = !e.finite || 2 * n_trial > trial;
#pragma omp for schedule(dynamic, 1) reduction(+ : n_back)
        for (int64_t block = 0; block < n_blocks; ++block) {
            const int64_t first = trial + others * block / n_blocks, count = trial + others * (block + 1) / n_blocks - first;
            if (useless) std::fill(handed_back + first, handed_back + first + count, uint8_t{1});
            n_back += useless ? count : scratch.rows(ids.data() + first, count, guess, out, handed_back, nullptr);
        }
    }
    return n_trial + n_back;
}
