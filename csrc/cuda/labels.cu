#include "cuda/bounds.cuh"
#include "cuda/cub.h"
#include "cuda/labels.h"
#include "cuda/launch.h"
#include "cuda/ptx.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

// Up to this many rows, counting for each row those that come before it costs less than the passes
// of a radix sort over the eight bytes of a label.
#ifndef FACENET_COUNT_LABELS_UP_TO
#define FACENET_COUNT_LABELS_UP_TO 4096
#endif

// Warp i finds the place of row i. labels [count] -> order, sorted [count]
__global__ void __launch_bounds__(kBlock, 2)
    place_by_counting(const int64_t* labels, int32_t count, int32_t* order, int64_t* sorted) {
  const int32_t i = int32_t(warp_number());
  if (i >= count) return;
  const int64_t label = labels[i];
  int32_t before = 0;
  for (int32_t j = lane(); j < count; j += 32) {
    before += labels[j] < label || (labels[j] == label && j < i);
  }
  before = warp_sum(before);
  if (lane() == 0) {
    order[before] = i;
    sorted[before] = label;
  }
}

__global__ void __launch_bounds__(kBlock) number_rows(int32_t count, int32_t* row) {
  const int64_t i = thread_number();
  if (i < count) row[i] = int32_t(i);
}

// of [count], among [n], both sorted -> begin, end [count]
__global__ void __launch_bounds__(kBlock, 2)
    class_ranges(const int64_t* of, int32_t count, const int64_t* among, int32_t n, int32_t* begin,
                 int32_t* end) {
  const int64_t i = thread_number();
  if (i >= count) return;
  begin[i] = count_below<false>(among, n, of[i]);
  end[i] = count_below<true>(among, n, of[i]);
}

// Sorted labels of anchors [M] and candidates [N] -> begin, end, count [M]; with a bound offset
// [M + 1], without one the terms [M + 1] that add up to it.
__global__ void __launch_bounds__(kBlock, 2)
    count_slots(const int64_t* of, int32_t anchors, const int64_t* among, int32_t candidates,
                bool self, int64_t bound, int32_t* begin, int32_t* end, int64_t* offset,
                int64_t* terms, int32_t* count, ClassSizes* sizes) {
  const int64_t i = thread_number();
  if (i > anchors) return;
  int32_t size = 0;
  if (i < anchors) {
    begin[i] = count_below<false>(among, candidates, of[i]);
    end[i] = count_below<true>(among, candidates, of[i]);
    size = end[i] - begin[i];
    if (size <= int32_t(self) || size == candidates) size = 0;
    if (bound > 0 && size > bound) {
      atomicExch(&sizes->over_the_bound, 1);
      size = 0;
    }
    count[i] = size;
    if (size > load_relaxed(&sizes->largest)) atomicMax(&sizes->largest, size);
  }
  if (bound > 0) {
    offset[i] = bound * i;
  } else {
    terms[i] = size;
  }
}

__global__ void total_slots(const int64_t* offset, int32_t anchors, ClassSizes* sizes) {
  sizes->slots = offset[anchors];
}

}  // namespace

void LabelOrder::place(Workspace& w) {
  order = w.take<int32_t>(count);
  labels = w.take<int64_t>(count);
}

void ClassRanges::place(Workspace& w) {
  begin = w.take<int32_t>(count);
  end = w.take<int32_t>(count);
}

void SlotTable::place(Workspace& w) {
  offset = w.take<int64_t>(anchors + 1);
  count = w.take<int32_t>(anchors);
}

void sort_by_label(const Device& device, const int64_t* labels, const LabelOrder& to) {
  const Sizes sizes{{"labels", to.count}};
  const int32_t count = int32_t(to.count);
  if (count == 0) return;
  if (count <= FACENET_COUNT_LABELS_UP_TO) {
    launch("place_by_counting", sizes, device.stream(), {blocks_of_warps(to.count), kBlock},
           place_by_counting, labels, count, to.order, to.labels);
    return;
  }
  const Memory rows(device, size_t(count) * sizeof(int32_t));
  int32_t* const row = reinterpret_cast<int32_t*>(rows.data());
  launch("number_rows", sizes, device.stream(), {blocks_of_threads(to.count), kBlock}, number_rows,
         count, row);
  sort_by_key(device, to.count, labels, to.labels, row, to.order);
}

void find_classes(const Device& device, const LabelOrder& of, const LabelOrder& among,
                  const ClassRanges& to) {
  launch("class_ranges", {{"of", of.count}, {"among", among.count}}, device.stream(),
         {blocks_of_threads(of.count), kBlock}, class_ranges, of.labels, int32_t(of.count),
         among.labels, int32_t(among.count), to.begin, to.end);
}

void make_slots(const Device& device, const LabelOrder& of, const LabelOrder& among, bool self,
                int64_t bound, const ClassRanges& classes, const SlotTable& to) {
  const Sizes sizes{{"anchors", of.count}, {"candidates", among.count}};
  const int32_t anchors = int32_t(of.count);
  const Memory terms(device, bound > 0 ? 0 : size_t(of.count + 1) * sizeof(int64_t));
  int64_t* const term = reinterpret_cast<int64_t*>(terms.data());
  launch("count_slots", sizes, device.stream(), {blocks_of_threads(of.count + 1), kBlock},
         count_slots, of.labels, anchors, among.labels, int32_t(among.count), self, bound,
         classes.begin, classes.end, to.offset, term, to.count, to.sizes);
  if (bound > 0) return;
  add_up(device, of.count + 1, term, to.offset);
}

ClassSizes read_sizes(const Device& device, const SlotTable& slots) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(device.stream(), &capture), "looking for a capture");
  if (capture != cudaStreamCaptureStatusNone) {
    fail(
        "max_per_class: expected a bound on the rows of a class, for a CUDA graph is being "
        "captured and the classes cannot be counted meanwhile; got none");
  }
  launch("total_slots", {}, device.stream(), {1, 1}, total_slots, slots.offset,
         int32_t(slots.anchors), slots.sizes);
  ClassSizes sizes;
  check_cuda(
      cudaMemcpyAsync(&sizes, slots.sizes, sizeof sizes, cudaMemcpyDeviceToHost, device.stream()),
      "reading class sizes");
  check_cuda(cudaStreamSynchronize(device.stream()), "reading class sizes");
  return sizes;
}

}  // namespace facenet::cuda
