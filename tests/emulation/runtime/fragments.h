// Which elements of its matrices a lane holds, in mma and after ldmatrix: the only place where the
// emulation says so. A test compares it with CuTe's description of the hardware.
#pragma once

namespace facenet::emulation {

struct Place {
  int row;
  int column;
};

// c [16, 8]
constexpr Place c_place(int lane, int index) {
  return {lane / 4 + 8 * (index / 2), 2 * (lane % 4) + index % 2};
}

// a [16, 16] and b [16, 8] of 16-bit elements, two per register
constexpr Place a_place_16(int lane, int index) {
  return {lane / 4 + 8 * (index / 2 % 2), 2 * (lane % 4) + index % 2 + 8 * (index / 4)};
}
constexpr Place b_place_16(int lane, int index) {
  return {2 * (lane % 4) + index % 2 + 8 * (index / 2), lane / 4};
}

// a [16, 8] and b [8, 8] of TF32
constexpr Place a_place_8(int lane, int index) {
  return {lane / 4 + 8 * (index % 2), lane % 4 + 4 * (index / 2)};
}
constexpr Place b_place_8(int lane, int index) { return {lane % 4 + 4 * index, lane / 4}; }

// ldmatrix: the lane whose row a register comes from, and the first of its two columns.
struct MatrixSource {
  int lane;
  int column;
};
constexpr MatrixSource matrix_source(int lane, int matrix) {
  return {8 * matrix + lane / 4, 2 * (lane % 4)};
}

}  // namespace facenet::emulation
