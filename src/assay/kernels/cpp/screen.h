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

constexpr int64_t MOST_ROWS = 85 * GROUP;  // that pass over the latents together: what is known of them should stay in cache
constexpr int64_t TRIAL_ROWS = 4 * GROUP;  // the same among the first ones
constexpr int64_t N_TRIALS = 2;
constexpr float SHORT_OF = 0.95f;   // of the level that nearly all first rows reach, so that few rows are searched twice
constexpr int64_t MORE_THAN_K = 8;  // pairs that are computed first, to know what k pairs reach
constexpr int LOOSE = 8;            // bits of a level that need not be exact

// A pair that may be chosen.
struct Candidate {
    int32_t latent;
    float middle;  // between the largest key that it can have and the smallest; later u in 32 bits, NaN where it is not computed
    float upper;   // the largest key
};

// What a panel needs to know of one row, in one line of cache.
struct alignas(64) Search {
    float bar;                  // only pairs whose upper end exceeds it can be chosen
    float scale, rest, length;  // of its query
    int32_t n, full, room;      // candidates; at how many they are thinned out; how many there is memory for
    bool guessed;               // whether the bar is a guess
    bool handed_back;
    Candidate* found;  // latents ascending
};

// What is known of the latents of one panel.
struct Panel {
    int64_t first;
    const int8_t* numbers;
    const int32_t* start;
    const float *scale, *base, *length, *rest, *slack;
    Encoder::Most most;

    Panel(const Encoder& e, int64_t i)
        : first(i), numbers(e.panels.data() + 4 * i * e.quads), start(e.start.data() + i), scale(e.scale.data() + i),
          base(e.base.data() + i), length(e.length.data() + i), rest(e.rest.data() + i), slack(e.slack.data() + i),
          most(e.most[i / PANEL]) {}
};

// Blocks of rows against all latents. Scratch belongs to one thread.
struct Screen {
    const Problem& p;
    const Encoder& e;
    float middle_length;
    Array<uint8_t> q;
    Array<float> some;
    Array<int32_t> ordered, places;
    std::vector<const float*> x;
    std::vector<Query> queries;
    Array<Search> searches;
    std::vector<Array<Candidate>> candidates;
    Rescore rescore;

    Screen(const Problem& problem, const Encoder& encoder)
        : p(problem), e(encoder), middle_length(std::sqrt(dot(problem.middle, problem.middle, problem.n))) {}

    // The rows `ids`. With a guess, a row's search begins at guess * (its length): rows where that was too high are searched again
    // without. per_length[r], if wanted: the k-th key of row r over its length. Returns how many rows are handed back.
    int64_t rows(const int64_t* ids, int64_t count, float guess, Pairs<float>& out, uint8_t* handed_back, float* per_length) {
        const int64_t whole = (count + GROUP - 1) / GROUP * GROUP;  // rows that only fill up find nothing
        searches.resize(whole);
        queries.resize(whole);
        candidates.resize(std::max(candidates.size(), static_cast<size_t>(whole)));
        q.resize(whole * 4 * e.quads);
        x.resize(count);
        for (int64_t r = 0; r < whole; ++r) begin(r, r < count ? ids[r] : -1, guess);
        sweep(whole);
        for (int64_t r = 0; r < count; ++r) ask_first(r);
        rescore.answer(x, p.W, p.F, p.n);
        if (p.rule.kind == TOP) {
            for (int64_t r = 0; r < count; ++r) ask_others(r);
            rescore.answer(x, p.W, p.F, p.n);
        }
        int64_t n_back = 0;
        std::vector<int64_t> again;
        for (int64_t r = 0; r < count; ++r) {
            const bool back = searches[r].handed_back;
            float kth = 0;
            handed_back[ids[r]] = back;
            n_back += back;
            if (!back && !decide(r, out.rows[ids[r]], kth)) again.push_back(ids[r]);
            if (per_length) per_length[r] = kth > 0 ? kth / queries[r].whole : 0;
        }
        if (!again.empty()) n_back += rows(again.data(), static_cast<int64_t>(again.size()), 0, out, handed_back, nullptr);
        return n_back;
    }

  private:
    // Row `id` as row r of the block; -1: nothing.
    void begin(int64_t r, int64_t id, float guess) {
        Search& s = searches[r];
        Array<Candidate>& found = candidates[r];
        if (found.empty()) found.resize(8 * PANEL);  // grows where it has to
        s = {INFINITY, 0, 0, 0, 0, INT32_MAX, static_cast<int32_t>(found.size()), guess > 0, true, found.data()};
        if (id < 0) return;
        x[r] = p.x + id * p.stride;
        std::memcpy(q.data() + r * 4 * e.quads, p.queries.q + id * 4 * e.quads, 4 * e.quads);
        const Query& query = queries[r] = query_of(p, id, middle_length);
        s.scale = query.scale;
        s.rest = query.rest;
        s.length = query.length;
        s.handed_back = !query.usable;
        if (query.usable) s.bar = p.rule.kind == FLOOR ? p.rule.floor : guess * query.whole;
        s.full = p.rule.kind == TOP && !s.guessed ? 4 * p.rule.k + 64 : p.most + 1;
    }

    void sweep(int64_t count) {
        const int64_t bytes = 4 * e.quads;
        const bool plain = p.n_outliers == 0 && !p.rule.is_signed;
        alignas(64) float middle[GROUP][PANEL];
        uint64_t open[GROUP];
        for (int64_t i = 0; i < e.padded; i += PANEL) {
            const Panel panel(e, i);
            for (int64_t r = 0; r < count; r += GROUP) {
                Search* s = searches.data() + r;
                product(q.data() + r * bytes, bytes, panel.numbers, e.quads, panel.start,
                        [&](int64_t t, const Ints* sums) { open[t] = look_at(panel, s[t], sums, middle[t]); });
                for (int64_t t = 0; t < GROUP; ++t) {
                    if (!plain) open[t] = completed(panel, s[t], r + t, middle[t]);
                    if (open[t]) add(panel, middle[t], open[t], s[t], r + t);
                }
            }
        }
    }

    // What a middle has to exceed, with the widest bound of the panel's latents. Nearly no panel holds one that does.
    static float near(const Panel& panel, const Search& s) {
        return s.bar - (s.rest * panel.most.length + s.length * panel.most.rest + panel.most.slack);
    }

    // The middles of one row's keys in a panel, and bits of those that may exceed the bar.
    static inline uint64_t look_at(const Panel& panel, const Search& s, const Ints* sums, float* middle) {
        const float bar = near(panel, s);
        uint64_t bits = 0;
#pragma GCC unroll 4
        for (int64_t c = 0; c < PARTS; ++c) {
            const Floats found = s.scale * __builtin_convertvector(sums[c], Floats) * load(panel.scale + 16 * c) + load(panel.base + 16 * c);
            store(middle + 16 * c, found);
            bits |= static_cast<uint64_t>(above(found, bar)) << 16 * c;
        }
        return bits;
    }

    // The same once the dimensions that are kept apart and the sign have done their part.
    uint64_t completed(const Panel& panel, const Search& s, int64_t r, float* middle) const {
        const float bar = near(panel, s);
        uint64_t bits = 0;
        for (int64_t c = 0; c < PARTS; ++c) {
            Floats found = load(middle + 16 * c);
            for (int64_t o = 0; o < p.n_outliers; ++o)
                found += queries[r].outlier[o] * load(e.outlier.data() + o * e.padded + panel.first + 16 * c);
            if (p.rule.is_signed) found = found < 0 ? -found : found;
            store(middle + 16 * c, found);
            bits |= static_cast<uint64_t>(above(found, bar)) << 16 * c;
        }
        return bits;
    }

    // Pairs of row r whose upper end exceeds the bar become candidates.
    void add(const Panel& panel, const float* middle, uint64_t bits, Search& s, int64_t r) {
        if (s.n + PANEL > s.room) {
            candidates[r].resize(2 * s.room);
            s.room *= 2;
            s.found = candidates[r].data();
        }
        int32_t n = s.n;
        for (; bits; bits &= bits - 1) {
            const int64_t c = __builtin_ctzll(bits);
            const float upper = middle[c] + (s.rest * panel.length[c] + s.length * panel.rest[c] + panel.slack[c]);
            s.found[n] = {static_cast<int32_t>(panel.first + c), middle[c], upper};
            n += upper > s.bar;
        }
        s.n = n;
        if (n >= s.full) thin_out(s);
    }

    // k candidates reach the k-th largest lower end for certain: drop those that cannot.
    void thin_out(Search& s) {
        if (p.rule.kind == TOP && s.n > p.rule.k) {
            some.resize(s.n);
            for (int64_t c = 0; c < s.n; ++c) {
                const float upper = s.found[c].upper;
                some[c] = std::max(-FLT_MAX, 2 * s.found[c].middle - upper - 1e-6f * std::fabs(upper));
            }
            const float reached = kth_largest(some.data(), s.n, p.rule.k, ordered);
            s.bar = std::max(s.bar, std::nextafter(reached, -INFINITY));  // equal to it may still be a tie
            int32_t kept = 0;
            for (int64_t c = 0; c < s.n; ++c) {
                s.found[kept] = s.found[c];
                kept += s.found[c].upper > s.bar;
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

    // For TOP the k pairs that are most likely the largest and a few more, else all candidates.
    void ask_first(int64_t r) {
        Search& s = searches[r];
        if (!s.handed_back && !s.guessed) thin_out(s);
        const int64_t first = p.rule.kind == TOP ? std::min<int64_t>(s.n, p.rule.k + MORE_THAN_K) : s.n;
        some.resize(s.n);
        for (int64_t c = 0; c < s.n; ++c) some[c] = s.found[c].middle;
        const float cut = first < s.n ? kth_largest(some.data(), s.n, first, ordered, LOOSE) : -INFINITY;
        ask(r, [&](Candidate& one) {
            const bool wanted = one.middle >= cut;
            one.middle = NAN;
            return wanted;
        });
    }

    // Those that may be as large as the k-th of the pairs that are known.
    void ask_others(int64_t r) {
        const Search& s = searches[r];
        const int64_t n = known(s);
        if (n == s.n) return;
        const float reached = kth_largest(some.data(), n, p.rule.k, ordered, LOOSE);
        ask(r, [&](const Candidate& one) { return (one.upper >= reached) & std::isnan(one.middle); });
    }

    // u of those candidates that are wanted. No branch: nobody can foresee it.
    template <class Wanted>
    void ask(int64_t r, Wanted wanted) {
        const Search& s = searches[r];
        Pair* to = rescore.room(s.n);
        int64_t n = 0;
        for (Candidate *one = s.found, *end = s.found + s.n; one != end; ++one) {
            to[n] = {static_cast<int32_t>(r), one->latent, &one->middle};
            n += wanted(*one);
        }
        rescore.n_asked += n;
    }

    // How many candidates were computed: `places` holds them and `some` their keys.
    int64_t known(const Search& s) {
        places.resize(s.n);
        some.resize(s.n);
        int32_t* place = places.data();
        float* key = some.data();
        int64_t n = 0;
        for (int32_t c = 0; c < s.n; ++c) {
            const Candidate& one = s.found[c];
            place[n] = c;
            key[n] = p.rule.key(one.middle, one.latent);
            n += !std::isnan(one.middle);
        }
        return n;
    }

    // The choice among the candidates of one row. False where it is not certain: the bar was a guess and turned out too high.
    bool decide(int64_t r, Row<float>& out, float& kth) {
        const Search& s = searches[r];
        const int64_t k = p.rule.k, n = known(s);
        float cut = p.rule.kind == FLOOR ? p.rule.floor : 0;
        if (p.rule.kind == ABOVE)
            for (int64_t a = 0; a < n; ++a) {
                const Candidate& one = s.found[places[a]];
                some[a] = one.middle > p.rule.level[one.latent] ? 1 : 0;
            }
        kth = p.rule.kind == TOP && n >= k ? std::max(0.0f, kth_largest(some.data(), n, k, ordered)) : 0;
        if (s.guessed && !(kth > s.bar)) return false;
        int64_t ties = 0;  // of those equal to the cut so many are chosen, from the lowest latent on
        if (kth > 0) {
            cut = kth;
            ties = k;
            for (int64_t a = 0; a < n; ++a) ties -= some[a] > cut;
        }
        int64_t chosen = 0;
        int32_t* place = places.data();
        for (int64_t a = 0; a < n; ++a) {
            const bool tie = some[a] == cut && ties > 0;
            place[chosen] = place[a];
            chosen += (some[a] > cut) | tie;
            ties -= tie;
        }
        out.latent.resize(chosen);
        out.value.resize(chosen);
        for (int64_t a = 0; a < chosen; ++a) {
            out.latent[a] = s.found[place[a]].latent;
            out.value[a] = s.found[place[a]].middle;
        }
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
    Array<float> per_length(trial);
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
