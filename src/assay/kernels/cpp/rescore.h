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
    std::vector<Pair> asked, sorted;
    std::vector<int32_t> next;

    void ask(int64_t row, int32_t latent, float* u) { asked.push_back({static_cast<int32_t>(row), latent, u}); }

    // x[r]: row r; W [F, n].
    void answer(const std::vector<const float*>& x, const float* W, int64_t F, int64_t n) {
        next.assign(F + 1, 0);
        for (const Pair& pair : asked) ++next[pair.latent + 1];
        for (int64_t i = 0; i < F; ++i) next[i + 1] += next[i];
        sorted.resize(asked.size());
        for (const Pair& pair : asked) sorted[next[pair.latent]++] = pair;
        const size_t count = sorted.size();
        for (size_t at = 0; at < count; ++at) {
            if (at + 2 < count) prefetch(x[sorted[at + 2].row], n);
            if (at + 4 < count && sorted[at + 4].latent != sorted[at + 3].latent) prefetch(W + sorted[at + 4].latent * n, n);
            *sorted[at].u = dot(x[sorted[at].row], W + sorted[at].latent * n, n);
        }
        asked.clear();
    }
};
