// Sums over a row in a fixed order: 64-byte vectors of GCC and clang, which every instruction set can hold in one or more registers.
// The order does not depend on the width of the registers, on threads or on alignment.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

template <class T>
struct Lanes {
    typedef T vector __attribute__((vector_size(64)));
    static constexpr int64_t COUNT = 64 / sizeof(T);
};

template <class T>
inline typename Lanes<T>::vector load(const T* from) {
    typename Lanes<T>::vector v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class T>
inline void store(T* to, typename Lanes<T>::vector v) {
    std::memcpy(to, &v, sizeof v);
}

template <class T>
inline T sum(typename Lanes<T>::vector v) {
    T lane[Lanes<T>::COUNT];
    store(lane, v);
    for (int64_t half = Lanes<T>::COUNT / 2; half > 0; half /= 2)
        for (int64_t j = 0; j < half; ++j) lane[j] += lane[j + half];
    return lane[0];
}

// sum_j a[j] b[j]
template <class T>
inline T dot(const T* a, const T* b, int64_t n) {
    constexpr int64_t L = Lanes<T>::COUNT;
    typename Lanes<T>::vector s0{}, s1{}, s2{}, s3{};
    int64_t j = 0;
    for (; j + 4 * L <= n; j += 4 * L) {
        s0 += load(a + j) * load(b + j);
        s1 += load(a + j + L) * load(b + j + L);
        s2 += load(a + j + 2 * L) * load(b + j + 2 * L);
        s3 += load(a + j + 3 * L) * load(b + j + 3 * L);
    }
    for (; j + L <= n; j += L) s0 += load(a + j) * load(b + j);
    T tail = 0;
    for (; j < n; ++j) tail += a[j] * b[j];
    return sum<T>((s0 + s1) + (s2 + s3)) + tail;
}

// to[j] += factor * from[j]
template <class T>
inline void add_scaled(T* to, T factor, const T* from, int64_t n) {
    constexpr int64_t L = Lanes<T>::COUNT;
    int64_t j = 0;
    for (; j + L <= n; j += L) store(to + j, load(to + j) + factor * load(from + j));
    for (; j < n; ++j) to[j] += factor * from[j];
}

// Ask for a row that is needed soon.
template <class T>
inline void prefetch(const T* row, int64_t n) {
    const char* bytes = reinterpret_cast<const char*>(row);
    for (int64_t at = 0; at < n * static_cast<int64_t>(sizeof(T)); at += 64) __builtin_prefetch(bytes + at);
}

// Bit j is set where a[j] > b[j], for 16 numbers.
template <class T>
inline uint32_t greater16(const T* a, const T* b) {
    uint32_t bits = 0;
    for (int j = 0; j < 16; ++j) bits |= static_cast<uint32_t>(a[j] > b[j]) << j;
    return bits;
}

#if defined(__AVX512F__)
template <>
inline uint32_t greater16<float>(const float* a, const float* b) {
    return _mm512_cmp_ps_mask(_mm512_loadu_ps(a), _mm512_loadu_ps(b), _CMP_GT_OQ);
}
#elif defined(__AVX2__)
template <>
inline uint32_t greater16<float>(const float* a, const float* b) {
    const auto low = _mm256_cmp_ps(_mm256_loadu_ps(a), _mm256_loadu_ps(b), _CMP_GT_OQ);
    const auto high = _mm256_cmp_ps(_mm256_loadu_ps(a + 8), _mm256_loadu_ps(b + 8), _CMP_GT_OQ);
    return static_cast<uint32_t>(_mm256_movemask_ps(low)) | static_cast<uint32_t>(_mm256_movemask_ps(high)) << 8;
}
#endif
