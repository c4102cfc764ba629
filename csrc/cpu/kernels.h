// The functions that are compiled once per instruction set, and their dispatch.
//
// kernels.cpp is built for AVX-512, for AVX2 with FMA and for the baseline; kernels<T>() returns
// the table for the processor it runs on. Nothing in kernels.cpp may use a standard container: the
// linker keeps one copy of an inline function for all callers, and that could be the copy compiled
// there, with instructions that other processors lack.
#pragma once

#include "cpu/kernel_arguments.h"

namespace facenet::cpu {

template <class T>
struct Kernels {
  // sorted[i] = values[order[i]] in panels: out [panel_count(rows), dim, kPanel]
  void (*pack)(const T* values, const int32_t* order, int64_t rows, int64_t dim, T* out);
  void (*store)(const Pairs<T>&, Store<T>);
  void (*positives)(const Pairs<T>&, Positives<T>);
  void (*extreme_positives)(const Pairs<T>&, Extremum<T>, bool farthest);
  void (*successors)(const Pairs<T>&, Successors<T>);
  void (*random_negatives)(const Pairs<T>&, const RandomNegatives<T>&, bool weighted);
  void (*band)(const BandKernel<T>&);
  // Each anchor's `closest` and `sum`; the rows are anchors.
  void (*softmax_sums)(const SoftmaxKernel<T>&);
  void (*softmax_positives)(const SoftmaxKernel<T>&);
  // gradient [rows, dim] in the caller's order, which `order` has
  void (*softmax_push)(const SoftmaxKernel<T>&, const int32_t* order, T* gradient);
  void (*histogram)(const Pairs<T>&, const Histogram&);
  void (*nearest)(const Pairs<T>&, Nearest<T>);
  void (*within)(const Pairs<T>&, Within<T>);
  // rank[k] = position of value k in ascending order (ties by k), for `count` values
  void (*rank)(const T* values, int64_t count, int32_t* rank);
  bool (*all_finite)(const T* x, int64_t count);
  // sum over k of (a[k] - b[k])^2
  T (*squared_distance)(const T* a, const T* b, int64_t dim);
  void (*gather_edges)(const T* x, int64_t dim, int64_t begin, int64_t end, const Edges<T>* sets,
                       int set_count, T scale, bool add, T* out);
};

template <class T>
const Kernels<T>& kernels();

}  // namespace facenet::cpu
