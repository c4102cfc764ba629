// The twin of CUB's header: stable sorts by a range of the keys' bits, on the host.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

namespace cub {

struct DeviceRadixSort {
  template <class Key, class Value, class Count>
  static cudaError_t SortPairs(void* temporary, size_t& bytes, const Key* keys_in, Key* keys_out,
                               const Value* values_in, Value* values_out, Count count,
                               int begin_bit = 0, int end_bit = int(sizeof(Key) * 8),
                               cudaStream_t = nullptr) {
    const size_t needed = 256 + size_t(count) * (sizeof(Key) + sizeof(Value));
    if (temporary == nullptr) {
      bytes = needed;
      return cudaSuccess;
    }
    if (bytes < needed || begin_bit < 0 || end_bit > int(sizeof(Key) * 8) || begin_bit > end_bit)
      return cudaErrorInvalidValue;
    for (int bit = begin_bit; bit < end_bit; bit += 8) {  // a pass of the device's
      facenet::emulation::log("cub::DeviceRadixSort");
    }
    // As a device would use it: what the caller has there is lost.
    std::memset(temporary, 0xff, bytes);
    struct Item {
      uint64_t order;
      Key key;
      Value value;
    };
    std::vector<Item> items;
    items.reserve(size_t(count));
    for (Count i = 0; i < count; ++i)
      items.push_back({digits(keys_in[i], begin_bit, end_bit), keys_in[i], values_in[i]});
    // The outputs are written from the start, and the inputs not read again: neither may rely on
    // the other where they overlap.
    std::stable_sort(items.begin(), items.end(),
                     [](const Item& a, const Item& b) { return a.order < b.order; });
    for (Count i = 0; i < count; ++i) {
      keys_out[i] = items[size_t(i)].key;
      values_out[i] = items[size_t(i)].value;
    }
    return cudaSuccess;
  }

 private:
  // The bits of the range, in an order that is the keys' own: the sign bit turned over, and all
  // others too for a negative floating-point number. -0 is 0.
  template <class Key>
  static uint64_t digits(Key key, int begin_bit, int end_bit) {
    static_assert(std::is_arithmetic_v<Key>, "a number");
    constexpr int kBits = int(sizeof(Key) * 8);
    constexpr uint64_t kSign = uint64_t(1) << (kBits - 1);
    constexpr uint64_t kAll = kSign | (kSign - 1);
    uint64_t bits = 0;
    if (std::is_floating_point_v<Key> && key == Key(0)) key = Key(0);
    std::memcpy(&bits, &key, sizeof(Key));
    if (std::is_floating_point_v<Key> && (bits & kSign) != 0)
      bits = ~bits & kAll;
    else if (std::is_signed_v<Key>)
      bits ^= kSign;
    const int width = end_bit - begin_bit;
    if (width == 0) return 0;
    return bits >> begin_bit & (~uint64_t(0) >> (64 - width));
  }
};

}  // namespace cub
