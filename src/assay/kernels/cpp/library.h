// The C interface: float (_f32) and double (_f64) of each kernel. Shapes, types and strides are the caller's duty (`native.py` checks
// them); ids are checked here, because reading them costs less than a second language does.
#pragma once
#include "adam.h"
#include "screen.h"
#include "select.h"
#include "sparse.h"

#define API extern "C" __attribute__((visibility("default")))

API const char* assay_sources() { return ASSAY_SOURCES; }  // a digest of the sources that this was compiled from

// What the processor can do: bit 0 AVX2 and FMA, bit 1 AVX-512 (F, BW, DQ, VL), bit 2 VNNI.
API int assay_processor() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return avx2 | avx512 << 1 | (__builtin_cpu_supports("avx512vnni") != 0) << 2;
#else
    return 0;
#endif
}

API int64_t assay_first_outside(const int64_t* id, int64_t n, int64_t limit) { return first_outside(id, n, limit); }

API void assay_by_latent(const int64_t* latent, int64_t nnz, int64_t F, int64_t* order, int64_t* start) {
    by_latent(latent, nnz, F, order, start);
}

#define KERNELS(T, NAME)                                                                                                       \
    API void assay_decode_##NAME(const int64_t* pointers, const int64_t* latent, const T* value, int64_t B, const T* W,        \
                                 int64_t width, T* out, int threads) {                                                         \
        decode(pointers, latent, value, B, W, width, out, threads);                                                            \
    }                                                                                                                          \
    API void assay_cotangent_##NAME(const int64_t* pointers, const int64_t* latent, int64_t B, const T* g, int64_t stride,     \
                                    const T* W, int64_t width, T* out, int threads) {                                          \
        cotangent(pointers, latent, B, g, stride, W, width, out, threads);                                                     \
    }                                                                                                                          \
    API void assay_accumulate_##NAME(const int64_t* order, const int64_t* start, const int64_t* row, const T* value,           \
                                     int64_t F, const T* g, int64_t stride, int64_t width, T* out, int threads) {              \
        accumulate(order, start, row, value, F, g, stride, width, out, threads);                                               \
    }                                                                                                                          \
    API double assay_squared_length_##NAME(const T* grad, const T* rows, int64_t n, int64_t width, T* along, int threads) {    \
        return squared_length(Written<T>{grad, width}, rows, n, along, threads);                                               \
    }                                                                                                                          \
    API double assay_squared_length_of_sums_##NAME(const int64_t* order, const int64_t* start, const int64_t* row,             \
                                                   const T* value, const T* g, int64_t stride, const T* rows, int64_t n,       \
                                                   int64_t width, T* along, int threads) {                                     \
        return squared_length(Summed<T>{order, start, row, value, g, stride, width}, rows, n, along, threads);                 \
    }                                                                                                                          \
    API void assay_adam_##NAME(T* param, const T* grad, T* first, T* second, int64_t n, int64_t width, const T* along,         \
                               double lr, double beta1, double beta2, double eps, double correction1, double correction2,      \
                               double shrink, int threads) {                                                                   \
        const Adam a{lr, beta1, beta2, eps, correction1, correction2, shrink};                                                 \
        adam(param, Written<T>{grad, width}, first, second, n, along, a, threads);                                             \
    }                                                                                                                          \
    API void assay_adam_of_sums_##NAME(T* param, const int64_t* order, const int64_t* start, const int64_t* row,               \
                                       const T* value, const T* g, int64_t stride, T* first, T* second, int64_t n,             \
                                       int64_t width, const T* along, double lr, double beta1, double beta2, double eps,       \
                                       double correction1, double correction2, double shrink, int threads) {                   \
        const Adam a{lr, beta1, beta2, eps, correction1, correction2, shrink};                                                 \
        adam(param, Summed<T>{order, start, row, value, g, stride, width}, first, second, n, along, a, threads);               \
    }                                                                                                                          \
    API void* assay_pairs_new_##NAME(int64_t B) {                                                                              \
        auto* pairs = new Pairs<T>;                                                                                            \
        pairs->rows.resize(B);                                                                                                 \
        return pairs;                                                                                                          \
    }                                                                                                                          \
    API void assay_pairs_free_##NAME(void* pairs) { delete static_cast<Pairs<T>*>(pairs); }                                    \
    API int64_t assay_pairs_count_##NAME(const void* pairs) { return count(*static_cast<const Pairs<T>*>(pairs)); }            \
    API void assay_pairs_export_##NAME(const void* pairs, int64_t* pointers, int64_t* row, int64_t* latent, T* value) {        \
        export_pairs(*static_cast<const Pairs<T>*>(pairs), pointers, row, latent, value);                                      \
    }                                                                                                                          \
    API void assay_keep_largest_##NAME(void* pairs, int64_t n, const T* level, int is_signed) {                                \
        keep_largest(*static_cast<Pairs<T>*>(pairs), n, Rule<T>{FLOOR, 0, level, 0, is_signed != 0});                          \
    }                                                                                                                          \
    API void assay_select_##NAME(void* pairs, const T* u, const int64_t* ids, int64_t n, int64_t F, int kind, int64_t k,       \
                                 const T* level, T floor, int is_signed, int threads) {                                        \
        const Rule<T> rule{static_cast<Kind>(kind), k, level, floor, is_signed != 0};                                          \
        select_rows(u, ids, n, F, rule, *static_cast<Pairs<T>*>(pairs), threads);                                              \
    }

KERNELS(float, f32)
KERNELS(double, f64)

API void assay_round_rows(const float* y, int64_t B, int64_t n, int64_t stride, const float* middle, const int64_t* outliers,
                          int64_t n_outliers, uint8_t* q, float* numbers, int threads) {
    round_rows(y, B, n, stride, middle, outliers, n_outliers, q, numbers, threads);
}

API int64_t assay_screen(void* pairs, const float* x, int64_t B, int64_t n, int64_t stride, const float* W, int64_t F,
                         const float* middle, const int64_t* outliers, int64_t n_outliers, const uint8_t* q, const float* numbers,
                         int kind, int64_t k, const float* level, float floor, int is_signed, int64_t most, uint8_t* handed_back,
                         int threads) {
    const Rule<float> rule{static_cast<Kind>(kind), k, level, floor, is_signed != 0};
    const Problem problem{x, B, n, stride, W, F, middle, outliers, n_outliers, {q, numbers}, rule, most};
    return screen(problem, *static_cast<Pairs<float>*>(pairs), handed_back, threads);
}
