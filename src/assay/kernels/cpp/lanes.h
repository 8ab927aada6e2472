// Sums over a row in a fixed order: 64-byte vectors of GCC and clang, which every instruction set can hold in one or more registers.
// The order does not depend on the width of the registers, on threads or on alignment.
#pragma once
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

template <class T>
struct Lanes {
    typedef T vector __attribute__((vector_size(64)));
    static constexpr int64_t COUNT = 64 / sizeof(T);
};

// Memory that begins where a vector does, so that no load touches two lines of cache.
template <class T>
struct Aligned {
    typedef T value_type;
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
    void deallocate(T* memory, size_t) { ::operator delete(memory, std::align_val_t{64}); }
    template <class U>
    bool operator==(const Aligned<U>&) const { return true; }
    template <class U>
    bool operator!=(const Aligned<U>&) const { return false; }
};

template <class T>
using Array = std::vector<T, Aligned<T>>;

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

#if defined(__AVX512DQ__)
template <>
inline float sum<float>(Lanes<float>::vector v) {  // the same additions in the same order
    const __m512 all = reinterpret_cast<__m512>(v);
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
#endif

// to[r] = sum_j x[r][j] w[j] for R rows of x. The order of a sum does not depend on R.
template <int R, class T>
inline void dots(const T* const* x, const T* w, int64_t n, T* const* to) {
    constexpr int64_t L = Lanes<T>::COUNT;
    typename Lanes<T>::vector s[R][4]{};
    int64_t j = 0;
    for (; j + 4 * L <= n; j += 4 * L)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int h = 0; h < 4; ++h) s[r][h] += load(x[r] + j + h * L) * load(w + j + h * L);
    for (; j + L <= n; j += L)
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) s[r][0] += load(x[r] + j) * load(w + j);
    T tail[R]{};
    for (; j < n; ++j)
        for (int r = 0; r < R; ++r) tail[r] += x[r][j] * w[j];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) *to[r] = sum<T>((s[r][0] + s[r][1]) + (s[r][2] + s[r][3])) + tail[r];
}

// sum_j a[j] b[j]
template <class T>
inline T dot(const T* a, const T* b, int64_t n) {
    T found, *to = &found;
    dots<1, T>(&a, b, n, &to);
    return found;
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

// Bit j is set where v[j] > bar, for 16 numbers.
inline uint32_t above(Lanes<float>::vector v, float bar) {
#if defined(__AVX512F__)
    return _mm512_cmp_ps_mask(reinterpret_cast<__m512>(v), _mm512_set1_ps(bar), _CMP_GT_OQ);
#else
    uint32_t bits = 0;
    for (int j = 0; j < 16; ++j) bits |= static_cast<uint32_t>(v[j] > bar) << j;
    return bits;
#endif
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
