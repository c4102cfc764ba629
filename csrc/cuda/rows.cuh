// How the kernels read the rows of a batch, and the distance of two of them.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/kernel_arguments.h"

namespace facenet::cuda {

template <class T>
__device__ T Rows<T>::raw(int32_t row, int32_t k) const {
  const int64_t at = int64_t(row) * dim + k;
  if constexpr (sizeof(T) == 8) {
    return static_cast<const double*>(data)[at];
  } else {
    switch (element) {
      case Element::kHalf:
        return __half2float(static_cast<const __half*>(data)[at]);
      case Element::kBFloat16:
        return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]);
      default:
        return static_cast<const float*>(data)[at];
    }
  }
}

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ double widened(double x) { return x; }
__device__ __forceinline__ float widened(__half x) { return __half2float(x); }
__device__ __forceinline__ float widened(__nv_bfloat16 x) { return __bfloat162float(x); }

// n elements that lie together, in reads of up to 16 bytes.
template <int n, class X, class T>
__device__ __forceinline__ void load_together(const X* from, T factor, T (&out)[n]) {
  struct alignas(n * sizeof(X) < 16 ? n * sizeof(X) : 16) Vector {
    X x[n * sizeof(X) < 16 ? n : 16 / sizeof(X)];
  };
  constexpr int kEach = int(sizeof(Vector) / sizeof(X));
#pragma unroll
  for (int v = 0; v < n / kEach; ++v) {
    const Vector vector = reinterpret_cast<const Vector*>(from)[v];
#pragma unroll
    for (int e = 0; e < kEach; ++e) out[v * kEach + e] = widened(vector.x[e]) * factor;
  }
}

template <int n, class X, class T>
__device__ __forceinline__ void load_typed(const X* from, int32_t there, bool aligned, T factor,
                                           T (&out)[n]) {
  if (aligned && there >= n) return load_together(from, factor, out);
#pragma unroll
  for (int i = 0; i < n; ++i) out[i] = i < there ? widened(from[i]) * factor : T(0);
}

// Columns k0 .. k0 + n - 1 of a row, times `factor`; zero beyond the last. n is 4 or 8 and divides
// k0.
template <int n, class T>
__device__ __forceinline__ void load_columns(const Rows<T>& rows, int32_t row, int32_t k0, T factor,
                                             T (&out)[n]) {
  const int64_t at = int64_t(row) * rows.dim + k0;
  const int32_t there = rows.dim - k0;
  const bool aligned = rows.aligned && rows.dim % n == 0;
  if constexpr (sizeof(T) == 8) {
    load_typed(static_cast<const double*>(rows.data) + at, there, aligned, factor, out);
  } else {
    switch (rows.element) {
      case Element::kHalf:
        return load_typed(static_cast<const __half*>(rows.data) + at, there, aligned, factor, out);
      case Element::kBFloat16:
        return load_typed(static_cast<const __nv_bfloat16*>(rows.data) + at, there, aligned, factor,
                          out);
      default:
        return load_typed(static_cast<const float*>(rows.data) + at, there, aligned, factor, out);
    }
  }
}

// The sum of squared differences of two rows, in the order of the columns: the same chain of
// operations as in FmaLoop, so that equal rows are at equal distances wherever they are computed.
template <class T>
__device__ T squared_difference(const Rows<T>& x, int32_t i, const Rows<T>& y, int32_t j) {
  const T fi = x.factor(i), fj = y.factor(j);
  T sum = 0;
#pragma unroll 1
  for (int32_t k = 0; k < x.dim; k += 8) {
    T a[8], b[8];
    load_columns(x, i, k, fi, a);
    load_columns(y, j, k, fj, b);
#pragma unroll
    for (int v = 0; v < 8; ++v) sum = fma(a[v] - b[v], a[v] - b[v], sum);
  }
  return sum;
}

// A row of zeros is at distance 1 from every row. NaN stays NaN.
template <class T>
__device__ __forceinline__ T distance_or_one(Distance kind, T squares, bool zero) {
  return zero ? T(1) + (squares - squares) : distance_from_squares(kind, squares);
}

template <class T>
__device__ T finish_distance(const Rows<T>& x, int32_t i, const Rows<T>& y, int32_t j, T squares) {
  return distance_or_one(x.distance, squares, x.is_zero(i) || y.is_zero(j));
}

template <class T>
__device__ T row_distance(const Rows<T>& x, int32_t i, const Rows<T>& y, int32_t j) {
  return finish_distance(x, i, y, j, squared_difference(x, i, y, j));
}

}  // namespace facenet::cuda
