// One Adam step (Kingma & Ba 2015, Algorithm 1) on a matrix of rows, with what a dictionary's unit rows need around it.
#pragma once
#include <cmath>
#include <vector>

#include "lanes.h"
#include "sparse.h"

struct Adam {
    double lr, beta1, beta2, eps;
    double correction1, correction2;  // 1 - beta^step
    double shrink;                    // what clipping by the global norm multiplies every gradient with
};

// The rows of a gradient: in memory, or each summed when it is asked for (`sparse.h`), so that the whole never stands in memory.
template <class T>
struct Written {
    const T* grad;
    int64_t width;

    const T* row(int64_t i, T*) const { return grad + i * width; }
};

template <class T>
struct Summed {
    const int64_t *order, *start, *pair_row;
    const T *value, *g;
    int64_t stride, width;

    const T* row(int64_t i, T* scratch) const {
        sum_of_latent(order, start, pair_row, value, i, g, stride, width, scratch);
        return scratch;
    }
};

// The squared length of the gradient [n, width], rows added in order. With `rows` the part of each gradient parallel to its row counts
// as removed; along[i] = (grad_i . rows_i) / (rows_i . rows_i) says how much of the row that is.
template <class T, class Grad>
double squared_length(const Grad& grad, const T* rows, int64_t n, T* along, int threads) {
    const int64_t width = grad.width;
    std::vector<double> of_row(n);
#pragma omp parallel num_threads(threads)
    {
        Array<T> scratch(width);
#pragma omp for schedule(dynamic, 64)
        for (int64_t i = 0; i < n; ++i) {
            const T* g = grad.row(i, scratch.data());
            const T* w = rows + i * width;
            const T part = rows ? dot(g, w, width) / dot(w, w, width) : T(0);
            if (rows) along[i] = part;
            double total = 0;
            for (int64_t begin = 0; begin < width; begin += 512) {  // short sums in T, their total in double
                const int64_t end = begin + 512 < width ? begin + 512 : width;
                T some[512];
                for (int64_t j = begin; j < end; ++j) some[j - begin] = rows ? g[j] - part * w[j] : g[j];
                total += dot(some, some, end - begin);
            }
            of_row[i] = total;
        }
    }
    double total = 0;
    for (int64_t i = 0; i < n; ++i) total += of_row[i];
    return total;
}

// In place; with `along` the parallel part goes first and each row has length 1 afterwards.
template <class T, class Grad>
void adam(T* param, const Grad& grad, T* first, T* second, int64_t n, const T* along, const Adam& a, int threads) {
    const int64_t width = grad.width;
    const T beta1 = a.beta1, beta2 = a.beta2, eps = a.eps, shrink = a.shrink;
    const T rest1 = 1 - a.beta1, rest2 = 1 - a.beta2;
    const T step = a.lr / a.correction1, per_root2 = 1 / std::sqrt(a.correction2);
#pragma omp parallel num_threads(threads)
    {
        Array<T> scratch(width);
#pragma omp for schedule(dynamic, 64)
        for (int64_t i = 0; i < n; ++i) {
            T *w = param + i * width, *m = first + i * width, *v = second + i * width;
            const T* g = grad.row(i, scratch.data());
            const T part = along ? along[i] : T(0);
#pragma omp simd
            for (int64_t j = 0; j < width; ++j) {
                const T slope = shrink * (g[j] - part * w[j]);
                m[j] = beta1 * m[j] + rest1 * slope;
                v[j] = beta2 * v[j] + rest2 * slope * slope;
                w[j] -= step * m[j] / (std::sqrt(v[j]) * per_root2 + eps);
            }
            if (along) {
                const T per_length = 1 / std::sqrt(dot(w, w, width));
#pragma omp simd
                for (int64_t j = 0; j < width; ++j) w[j] *= per_length;
            }
        }
    }
}
