// Products of sparse codes: pairs (row, latent, value) in row order, pointers [B + 1] into them.
// Every element of a result is summed by one thread in the order of the pairs, so results do not depend on the number of threads.
#pragma once
#include <vector>

#include "lanes.h"

#if defined(__AVX512F__)
constexpr int64_t HELD = 16;  // vectors of 64 bytes that a sum holds in registers
#else
constexpr int64_t HELD = 4;
#endif

// The first of `n` ids outside 0 .. limit - 1, or -1.
inline int64_t first_outside(const int64_t* id, int64_t n, int64_t limit) {
    for (int64_t p = 0; p < n; ++p)
        if (id[p] < 0 || id[p] >= limit) return p;
    return -1;
}

// to = sum over q = begin .. end - 1 of factor(q) * from(q), each `width` long, in the order of q. As many columns at a time as fit into
// registers: the sum of each column is the same whichever way they are divided.
template <class T, class Factor, class From>
inline void weighted_sum(int64_t begin, int64_t end, int64_t width, T* to, Factor factor, From from) {
    constexpr int64_t L = Lanes<T>::COUNT, AHEAD = 2;
    int64_t j = 0;
    for (; j + HELD * L <= width; j += HELD * L) {
        typename Lanes<T>::vector total[HELD]{};
        for (int64_t q = begin; q < end; ++q) {
            if (q + AHEAD < end) prefetch(from(q + AHEAD) + j, HELD * L);
            const T* row = from(q) + j;
            const T by = factor(q);
            for (int64_t h = 0; h < HELD; ++h) total[h] += by * load(row + h * L);
        }
        for (int64_t h = 0; h < HELD; ++h) store(to + j + h * L, total[h]);
    }
    if (j == width) return;
    std::memset(to + j, 0, (width - j) * sizeof(T));
    for (int64_t q = begin; q < end; ++q) add_scaled(to + j, factor(q), from(q) + j, width - j);
}

// out[b] = sum over the pairs p of row b of value[p] * W[latent[p]]; W [F, width], out [B, width].
template <class T>
void decode(const int64_t* pointers, const int64_t* latent, const T* value, int64_t B, const T* W, int64_t width, T* out,
            int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < B; ++b)
        weighted_sum(
            pointers[b], pointers[b + 1], width, out + b * width, [&](int64_t p) { return value[p]; },
            [&](int64_t p) { return W + latent[p] * width; });
}

// out[p] = g[b] . W[latent[p]] for the pairs p of row b; rows of g are `stride` apart.
template <class T>
void cotangent(const int64_t* pointers, const int64_t* latent, int64_t B, const T* g, int64_t stride, const T* W,
               int64_t width, T* out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t b = 0; b < B; ++b)
        for (int64_t p = pointers[b]; p < pointers[b + 1]; ++p) {
            if (p + 2 < pointers[b + 1]) prefetch(W + latent[p + 2] * width, width);
            out[p] = dot(g + b * stride, W + latent[p] * width, width);
        }
}

// The pairs sorted by latent, rows ascending within one: order [nnz]; the pairs of latent i are order[start[i] .. start[i + 1]].
inline void by_latent(const int64_t* latent, int64_t nnz, int64_t F, int64_t* order, int64_t* start) {
    std::memset(start, 0, (F + 1) * sizeof(int64_t));
    for (int64_t p = 0; p < nnz; ++p) ++start[latent[p] + 1];
    for (int64_t i = 0; i < F; ++i) start[i + 1] += start[i];
    std::vector<int64_t> next(start, start + F);
    for (int64_t p = 0; p < nnz; ++p) order[next[latent[p]]++] = p;
}

// to = sum over the pairs p of latent i of value[p] * g[row[p]]; rows of g are `stride` apart.
template <class T>
inline void sum_of_latent(const int64_t* order, const int64_t* start, const int64_t* row, const T* value, int64_t i, const T* g,
                          int64_t stride, int64_t width, T* to) {
    weighted_sum(
        start[i], start[i + 1], width, to, [&](int64_t q) { return value[order[q]]; },
        [&](int64_t q) { return g + row[order[q]] * stride; });
}

// out[i]: the sum of latent i; out [F, width].
template <class T>
void accumulate(const int64_t* order, const int64_t* start, const int64_t* row, const T* value, int64_t F, const T* g,
                int64_t stride, int64_t width, T* out, int threads) {
#pragma omp parallel for schedule(dynamic, 64) num_threads(threads)
    for (int64_t i = 0; i < F; ++i) sum_of_latent(order, start, row, value, i, g, stride, width, out + i * width);
}
