// The k-th largest of a few hundred numbers, without a branch that depends on them.
#pragma once
#include <cstdint>
#include <cstring>

#include "lanes.h"

// The k-th largest of n >= k numbers, none of them NaN: its bits from the highest down, each by counting. Without the last `loose` bits it
// is a little less, and k numbers reach it all the same.
inline float kth_largest(const float* from, int64_t n, int64_t k, Array<int32_t>& ordered, int loose = 0) {
    ordered.resize(n);
    std::memcpy(ordered.data(), from, n * sizeof(float));
    int32_t* at = ordered.data();
    int32_t least = INT32_MAX, most = INT32_MIN;
#pragma omp simd reduction(min : least) reduction(max : most)
    for (int64_t c = 0; c < n; ++c) {
        at[c] ^= (at[c] >> 31) & INT32_MAX;  // as integers they are in the order of the floats
        least = at[c] < least ? at[c] : least;
        most = at[c] > most ? at[c] : most;
    }
    const uint32_t differ = static_cast<uint32_t>(least) ^ static_cast<uint32_t>(most);
    const int highest = differ ? 31 - __builtin_clz(differ) : -1;  // bits above it are the same in all
    uint32_t found = (static_cast<uint32_t>(most) ^ 0x80000000u) & ~((uint64_t{1} << (highest + 1)) - 1);  // counted from the least integer
    for (int bit = highest; bit >= loose; --bit) {
        const uint32_t next = found | 1u << bit;
        const int32_t bar = static_cast<int32_t>(next ^ 0x80000000u);
        int32_t reach = 0;
#pragma omp simd reduction(+ : reach)
        for (int64_t c = 0; c < n; ++c) reach += at[c] >= bar;
        if (reach >= k) found = next;
    }
    found ^= 0x80000000u;
    int32_t answer = static_cast<int32_t>(found);
    answer ^= (answer >> 31) & INT32_MAX;
    float value;
    std::memcpy(&value, &answer, sizeof value);
    return value;
}
