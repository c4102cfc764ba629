#include "cuda/bounds.cuh"
#include "cuda/cub.h"
#include "cuda/labels.cuh"
#include "cuda/launch.h"
#include "cuda/warp.cuh"

namespace facenet::cuda {
namespace {

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

// Sorted labels of anchors [M] and candidates [N] -> begin, end [M] and slots.
__global__ void __launch_bounds__(kBlock, 2)
    count_slots(const int64_t* of, const int64_t* among, int32_t candidates, bool self,
                int64_t bound, const ClassRanges classes, const SlotTable to) {
  const int64_t i = thread_number();
  if (i == 0 && to.anchors == 0) to.offset[0] = 0;
  if (i >= to.anchors) return;
  const int32_t begin = count_below<false>(among, candidates, of[i]);
  const int32_t end = count_below<true>(among, candidates, of[i]);
  classes.begin[i] = begin;
  classes.end[i] = end;
  write_slots(to, self, bound, candidates, int32_t(i), end - begin);
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
  launch("count_slots", sizes, device.stream(), {blocks_of_threads(of.count + 1), kBlock},
         count_slots, of.labels, among.labels, int32_t(among.count), self, bound, classes, to);
}

ClassSizes add_up_slots(const Device& device, const SlotTable& slots) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(device.stream(), &capture), "looking for a capture");
  if (capture != cudaStreamCaptureStatusNone) {
    fail(
        "max_per_class: expected a bound on the rows of a class, for a CUDA graph is being "
        "captured and the classes cannot be counted meanwhile; got none");
  }
  add_up(device, slots.anchors + 1, slots.offset, slots.offset);
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
