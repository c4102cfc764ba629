#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "cuda/cub.h"
#include "cuda/edges.h"
#include "cuda/launch.h"
#include "cuda/workspace.h"

namespace facenet::cuda {
namespace {

// f(null, bytes) asks how much temporary memory it wants, f(memory, bytes) runs.
template <class F>
void with_temporary(const char* what, const Device& device, int64_t count, const F& f) {
  const Sizes sizes{{"count", count}};
  size_t bytes = 0;
  check_cuda(f(nullptr, bytes), what, sizes);
  const Memory memory(device, bytes);
  check_cuda(f(memory.data(), bytes), what, sizes);
}

template <class Value>
void sort(const Device& device, int64_t count, int64_t keys, const uint32_t* from, uint32_t* sorted,
          const Value* values, Value* sorted_values) {
  if (count == 0) return;
  // Only the lowest bits count. All of them are ones in kNoRow, and in no key below `keys`.
  int bits = 1;
  while ((int64_t(1) << bits) <= keys) ++bits;
  with_temporary("sort", device, count, [&](void* temporary, size_t& bytes) {
    return ::cub::DeviceRadixSort::SortPairs(temporary, bytes, from, sorted, values, sorted_values,
                                             count, 0, bits, device.stream());
  });
}

}  // namespace

void sort_by_key(const Device& device, int64_t count, int64_t keys, const uint32_t* from,
                 uint32_t* sorted, const int32_t* values, int32_t* sorted_values) {
  sort(device, count, keys, from, sorted, values, sorted_values);
}

template <class T>
void sort_by_key(const Device& device, int64_t count, int64_t keys, const uint32_t* from,
                 uint32_t* sorted, const Edge<T>* values, Edge<T>* sorted_values) {
  sort(device, count, keys, from, sorted, values, sorted_values);
}

void add_up(const Device& device, int64_t count, const int64_t* terms, int64_t* sums) {
  with_temporary("sum", device, count, [&](void* temporary, size_t& bytes) {
    return ::cub::DeviceScan::ExclusiveSum(temporary, bytes, terms, sums, count, device.stream());
  });
}

template void sort_by_key(const Device&, int64_t, int64_t, const uint32_t*, uint32_t*,
                          const Edge<float>*, Edge<float>*);
template void sort_by_key(const Device&, int64_t, int64_t, const uint32_t*, uint32_t*,
                          const Edge<double>*, Edge<double>*);

}  // namespace facenet::cuda
