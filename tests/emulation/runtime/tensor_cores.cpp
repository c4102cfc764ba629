// Copies to shared memory in the background, and the products of small matrices.
#include <algorithm>
#include <climits>
#include <cmath>
#include <cstring>

#include "access.h"
#include "emulation/device_api.h"
#include "emulation/small_floats.h"
#include "fragments.h"
#include "machine.h"
#include "settings.h"

namespace facenet::emulation {
namespace {

Machine& machine() { return *Machine::running(); }

bool aligned_to_16(const void* pointer) { return reinterpret_cast<size_t>(pointer) % 16 == 0; }

// The destination of a copy must be shared memory of the block, in a kernel's dynamic part.
void check_destination(Machine& device, const void* shared, const char* instruction) {
  const size_t offset =
      size_t(static_cast<const unsigned char*>(shared) - device.region().dynamic());
  if (offset + 16 > device.region().dynamic_bytes() || offset > device.region().dynamic_bytes())
    device.fault(std::string(instruction) +
                 " out of bounds: its address is not in the dynamic shared memory");
  if (!aligned_to_16(shared))
    device.fault(std::string(instruction) + ": its address in shared memory is not aligned to 16");
}

void deliver(Machine& device, const Copy& copy) {
  const size_t offset =
      size_t(static_cast<unsigned char*>(copy.shared) - device.region().dynamic());
  std::memset(copy.shared, 0, 16);
  std::memcpy(copy.shared, copy.global, size_t(copy.bytes));
  if (race_detection()) device.races().set_in_flight(offset, 16, false);
}

struct MatrixLoad {
  const void* row;
  uint32_t* matrices;
  const void* where;
  uint32_t thread;
};

void complete_load(void* const* arguments, uint32_t) {
  const auto lane_of = [&](int lane) { return static_cast<MatrixLoad*>(arguments[lane]); };
  for (int lane = 0; lane < kLanes; ++lane) {
    check_destination(machine(), lane_of(lane)->row, "ldmatrix");
    check_access(machine(), lane_of(lane)->row, 16, AccessKind::kRead, lane_of(lane)->thread,
                 lane_of(lane)->where);
  }
  for (int lane = 0; lane < kLanes; ++lane)
    for (int index = 0; index < 4; ++index) {
      const MatrixSource source = matrix_source(lane, index);
      const auto* row = static_cast<const unsigned char*>(lane_of(source.lane)->row);
      std::memcpy(&lane_of(lane)->matrices[index], row + 2 * source.column, 4);
    }
}

struct Product {
  MatrixType type;
  float* c;
  const uint32_t* a;
  const uint32_t* b;
};

// How often an instruction adds, and with how many bits beyond a float32's. A100: half of the
// products at a time, one bit. H100 and later: all of them, two bits. (M. Fasi et al., Numerical
// behavior of NVIDIA tensor cores, 2021; F. A. Khattak and M. Mikaitis, Accurate models of NVIDIA
// tensor cores, 2025. No maker's document says it.)
struct Adder {
  int products;
  int bits_beyond;
};
Adder adder(int depth) { return device_capability() < 90 ? Adder{depth / 2, 1} : Adder{depth, 2}; }

float cut_off(double sum) {
  const float rounded = float(sum);
  const bool away = std::isfinite(rounded) && std::fabs(double(rounded)) > std::fabs(sum);
  return away ? std::nextafter(rounded, 0.0f) : rounded;
}

// c + a0 b0 + a1 b1 + ... as the matrix units add: each summand loses the bits below the last that
// the largest one has room for, and the sum those below a float32's last. The exponent of a product
// is the sum of its factors'.
float add_aligned(float c, const float* a, const float (*b)[8], int column, Adder with) {
  int largest = c == 0 ? INT_MIN : std::ilogb(c);
  bool finite = std::isfinite(c);
  double exact = c;
  for (int k = 0; k < with.products; ++k) {
    const float x = a[k], y = b[k][column];
    exact += double(x) * y;
    finite = finite && std::isfinite(x) && std::isfinite(y);
    if (x != 0 && y != 0) largest = std::max(largest, std::ilogb(x) + std::ilogb(y));
  }
  if (!finite || largest == INT_MIN) return float(exact);
  const double last = std::ldexp(1.0, largest - 23 - with.bits_beyond);
  double sum = std::trunc(c / last);
  for (int k = 0; k < with.products; ++k) sum += std::trunc(double(a[k]) * b[k][column] / last);
  return cut_off(sum * last);
}

float element(MatrixType type, const uint32_t* registers, int index) {
  if (type == MatrixType::kTf32) return bits_to_float(registers[index] & ~0x1fffu);
  const uint16_t bits = uint16_t(registers[index / 2] >> 16 * (index % 2));
  return type == MatrixType::kHalf ? half_to_float(bits) : bfloat16_to_float(bits);
}

void complete_product(void* const* arguments, uint32_t) {
  const auto lane_of = [&](int lane) { return static_cast<Product*>(arguments[lane]); };
  const MatrixType type = lane_of(0)->type;
  const int depth = type == MatrixType::kTf32 ? 8 : 16;
  const bool wide = depth == 16;
  const Adder with = adder(depth);
  float a[16][16] = {}, b[16][8] = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    for (int i = 0; i < depth / 2; ++i) {
      const Place place = wide ? a_place_16(lane, i) : a_place_8(lane, i);
      a[place.row][place.column] = element(type, lane_of(lane)->a, i);
    }
    for (int i = 0; i < depth / 4; ++i) {
      const Place place = wide ? b_place_16(lane, i) : b_place_8(lane, i);
      b[place.row][place.column] = element(type, lane_of(lane)->b, i);
    }
  }
  for (int lane = 0; lane < kLanes; ++lane)
    for (int i = 0; i < 4; ++i) {
      const Place place = c_place(lane, i);
      float& c = lane_of(lane)->c[i];
      for (int k = 0; k < depth; k += with.products) {
        c = add_aligned(c, &a[place.row][k], &b[k], place.column, with);
      }
    }
}

}  // namespace

void copy_async(void* shared, const void* global, int bytes) {
  require_capability(80, "cp.async");
  Machine& device = machine();
  check_destination(device, shared, "cp.async");
  if (!aligned_to_16(global)) device.fault("cp.async: its source is not aligned to 16 bytes");
  if (bytes < 0 || bytes > 16) device.fault("cp.async copies 0 to 16 bytes");
  const void* where = __builtin_return_address(0);
  Thread& thread = device.current();
  check_access(device, global, size_t(bytes), AccessKind::kRead, thread.id, where);
  check_access(device, shared, 16, AccessKind::kWrite, thread.id, where);
  // Nothing is there until the wait.
  std::memset(shared, 0xff, 16);
  if (race_detection())
    device.races().set_in_flight(
        size_t(static_cast<unsigned char*>(shared) - device.region().dynamic()), 16, true);
  if (thread.copies.empty()) thread.copies.emplace_back();
  thread.copies.back().push_back({shared, global, bytes});
}

void commit_copies() {
  require_capability(80, "cp.async");
  Thread& thread = machine().current();
  if (thread.copies.empty()) thread.copies.emplace_back();
  thread.copies.emplace_back();
}

void wait_for_copies(int pending) {
  require_capability(80, "cp.async");
  Machine& device = machine();
  Thread& thread = device.current();
  const void* where = __builtin_return_address(0);
  // The open group is not waited for.
  while (int(thread.copies.size()) > pending + 1) {
    for (const Copy& copy : thread.copies.front()) {
      deliver(device, copy);
      check_access(device, copy.shared, 16, AccessKind::kWrite, thread.id, where);
    }
    thread.copies.erase(thread.copies.begin());
  }
}

void load_matrices(uint32_t (&matrices)[4], const void* row) {
  require_capability(80, "ldmatrix");
  MatrixLoad self = {row, matrices, __builtin_return_address(0), machine().current().id};
  machine().collective("ldmatrix", 0xffffffff, &self, &complete_load, self.where);
}

void multiply_matrices(MatrixType type, float (&c)[4], const uint32_t (&a)[4],
                       const uint32_t (&b)[2]) {
  require_capability(80, "mma");
  static const char* const kNames[] = {"mma (bf16)", "mma (f16)", "mma (tf32)"};
  Product self = {type, c, a, b};
  machine().collective(kNames[int(type)], 0xffffffff, &self, &complete_product,
                       __builtin_return_address(0));
}

}  // namespace facenet::emulation
