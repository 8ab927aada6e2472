// Which pairs of a batch are chosen. Selections are exact: they are decided by comparing the numbers u themselves.
//
//   ABOVE   u > level[i]
//   TOP     the k largest keys of a row; key = relu(u + level[i]), or |u + level[i]| when signed; 0 is never chosen
//   FLOOR   every key above `floor`: the candidates of a selection over the whole batch
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lanes.h"

enum Kind : int { ABOVE = 0, TOP = 1, FLOOR = 2 };

template <class T>
struct Rule {
    Kind kind;
    int64_t k;
    const T* level;  // [F]
    T floor;
    bool is_signed;

    T key(T u, int64_t i) const {
        const T z = u + level[i];
        return is_signed ? std::abs(z) : z;
    }
};

// The chosen pairs of one row, latents ascending.
template <class T>
struct Row {
    std::vector<int32_t> latent;
    std::vector<T> value;

    void add(int64_t i, T u) {
        latent.push_back(static_cast<int32_t>(i));
        value.push_back(u);
    }
};

template <class T>
struct Pairs {
    std::vector<Row<T>> rows;
};

template <class T>
int64_t count(const Pairs<T>& pairs) {
    int64_t n = 0;
    for (const auto& row : pairs.rows) n += static_cast<int64_t>(row.latent.size());
    return n;
}

// In row order: pointers [B + 1]; row, latent, value [count].
template <class T>
void export_pairs(const Pairs<T>& pairs, int64_t* pointers, int64_t* row, int64_t* latent, T* value) {
    int64_t p = 0;
    for (size_t b = 0; b < pairs.rows.size(); ++b) {
        pointers[b] = p;
        for (size_t at = 0; at < pairs.rows[b].latent.size(); ++at, ++p) {
            row[p] = static_cast<int64_t>(b);
            latent[p] = pairs.rows[b].latent[at];
            value[p] = pairs.rows[b].value[at];
        }
    }
    pointers[pairs.rows.size()] = p;
}

template <class T>
struct Ranked {
    T key;
    int32_t latent;
    T value;

    bool before(const Ranked& other) const {  // ties go to the lower latent
        return key > other.key || (key == other.key && latent < other.latent);
    }
};

// Keep the k best of `some`.
template <class T>
void keep_best(std::vector<Ranked<T>>& some, int64_t k) {
    if (static_cast<int64_t>(some.size()) <= k) return;
    auto before = [](const Ranked<T>& a, const Ranked<T>& b) { return a.before(b); };
    std::nth_element(some.begin(), some.begin() + (k - 1), some.end(), before);
    some.resize(k);  // the k-th stays last
}

template <class T>
void put(std::vector<Ranked<T>>& chosen, Row<T>& out) {
    std::sort(chosen.begin(), chosen.end(), [](const auto& a, const auto& b) { return a.latent < b.latent; });
    for (const auto& one : chosen) out.add(one.latent, one.value);
}

// Call visit(i) for every i with a[i] > b[i], ascending; `b` may rise between two groups of 16.
template <class T, class Visit>
inline void each_above(const T* key, const T* bar, int64_t begin, int64_t count, Visit visit) {
    if (count == 16) {
        for (uint32_t bits = greater16(key, bar); bits; bits &= bits - 1) visit(begin + __builtin_ctz(bits));
    } else {
        for (int64_t j = 0; j < count; ++j)
            if (key[j] > bar[j]) visit(begin + j);
    }
}

// One row of u [F].
template <class T>
void select_row(const T* u, int64_t F, const Rule<T>& rule, std::vector<Ranked<T>>& best, Row<T>& out) {
    T key[16], bar[16];
    best.clear();
    T floor = rule.kind == FLOOR ? rule.floor : T(0);
    const size_t full = static_cast<size_t>(2 * rule.k + 64);
    for (int64_t i = 0; i < F; i += 16) {
        const int64_t count = F - i < 16 ? F - i : 16;
        if (rule.kind == ABOVE) {
            each_above(u + i, rule.level + i, i, count, [&](int64_t at) { out.add(at, u[at]); });
            continue;
        }
        for (int64_t j = 0; j < count; ++j) {
            key[j] = rule.key(u[i + j], i + j);
            bar[j] = floor;
        }
        each_above(key, bar, i, count, [&](int64_t at) {
            if (rule.kind == FLOOR) out.add(at, u[at]);
            else best.push_back({key[at - i], static_cast<int32_t>(at), u[at]});
        });
        if (rule.kind == TOP && best.size() >= full) {
            keep_best(best, rule.k);
            floor = best.back().key;  // later latents lose ties, so only a larger key can still enter
        }
    }
    if (rule.kind == TOP) {
        keep_best(best, rule.k);
        put(best, out);
    }
}

// Rows u [n, F] of the batch rows `ids`.
template <class T>
void select_rows(const T* u, const int64_t* ids, int64_t n, int64_t F, const Rule<T>& rule, Pairs<T>& out, int threads) {
#pragma omp parallel num_threads(threads)
    {
        std::vector<Ranked<T>> best;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n; ++r) select_row(u + r * F, F, rule, best, out.rows[ids[r]]);
    }
}

// Of all pairs the n of largest key, ties to the lower row, then the lower latent.
template <class T>
void keep_largest(Pairs<T>& pairs, int64_t n, const Rule<T>& rule) {
    std::vector<T> keys;
    for (const auto& row : pairs.rows)
        for (size_t p = 0; p < row.latent.size(); ++p) keys.push_back(rule.key(row.value[p], row.latent[p]));
    if (static_cast<int64_t>(keys.size()) <= n) return;
    std::nth_element(keys.begin(), keys.begin() + (n - 1), keys.end(), std::greater<T>());
    const T cut = keys[n - 1];
    int64_t ties = n - std::count_if(keys.begin(), keys.begin() + n, [&](T key) { return key > cut; });
    for (auto& row : pairs.rows) {
        size_t n = 0;
        for (size_t p = 0; p < row.latent.size(); ++p) {
            const T key = rule.key(row.value[p], row.latent[p]);
            if (key > cut || (key == cut && ties-- > 0)) {
                row.latent[n] = row.latent[p];
                row.value[n++] = row.value[p];
            }
        }
        row.latent.resize(n);
        row.value.resize(n);
    }
}
