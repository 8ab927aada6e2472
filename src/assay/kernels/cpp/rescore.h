// u in 32 bits at pairs (row, latent) of a block of rows, latent by latent: each row of W comes from memory once for all its pairs,
// and the rows of x stay in cache. Which pairs are asked for together changes no number.
#pragma once
#include <vector>

#include "lanes.h"

struct Pair {
    int32_t row, latent;
    float* u;  // where to write it
};

struct Rescore {
    static constexpr int64_t MOST = 4;   // rows at a time against one row of W
    static constexpr int64_t AHEAD = 4;  // pairs before its own at which a row of W is asked for
    std::vector<Pair> asked, sorted;
    int64_t n_asked = 0;
    std::vector<int32_t> next;

    // Where the next `most` pairs may be written; `n_asked` then grows by those that were.
    Pair* room(int64_t most) {
        if (static_cast<int64_t>(asked.size()) < n_asked + most) asked.resize(2 * (n_asked + most));
        return asked.data() + n_asked;
    }

    // x[r]: row r; W [F, n].
    void answer(const std::vector<const float*>& x, const float* W, int64_t F, int64_t n) {
        const int64_t count = n_asked;
        next.assign(F + 1, 0);
        for (int64_t a = 0; a < count; ++a) ++next[asked[a].latent + 1];
        for (int64_t i = 0; i < F; ++i) next[i + 1] += next[i];
        if (sorted.size() < asked.size()) sorted.resize(asked.size());
        for (int64_t a = 0; a < count; ++a) sorted[next[asked[a].latent]++] = asked[a];
        n_asked = 0;
        for (int64_t at = 0; at < count;) {
            const Pair* pair = sorted.data() + at;
            const int64_t left = count - at;
            int64_t same = 1;
            while (same < std::min(left, MOST) && pair[same].latent == pair->latent) ++same;
            for (int64_t ahead = AHEAD; ahead < std::min(left, AHEAD + same); ++ahead)
                if (pair[ahead].latent != pair[ahead - 1].latent) prefetch(W + pair[ahead].latent * n, n);
            const float *rows[MOST], *w = W + pair->latent * n;
            float* to[MOST];
            for (int64_t r = 0; r < same; ++r) {
                rows[r] = x[pair[r].row];
                to[r] = pair[r].u;
            }
            switch (same) {
                case 4: dots<4>(rows, w, n, to); break;
                case 3: dots<3>(rows, w, n, to); break;
                case 2: dots<2>(rows, w, n, to); break;
                default: dots<1>(rows, w, n, to);
            }
            at += same;
        }
    }
};
