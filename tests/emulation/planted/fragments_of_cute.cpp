// Compares the emulation's fragment layouts with those of CuTe, CUTLASS's description of the
// hardware. Prints the differences.
#include <cstdio>
#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>

#include "fragments.h"

namespace {

using facenet::emulation::MatrixSource;
using facenet::emulation::Place;

int differences = 0;

void compare(const char* what, int lane, int index, Place ours, int row, int column) {
  if (ours.row == row && ours.column == column) return;
  ++differences;
  std::printf("%s, lane %d, element %d: (%d, %d) here, (%d, %d) in CuTe\n", what, lane, index,
              ours.row, ours.column, row, column);
}

// CuTe numbers the elements of a matrix [rows, columns] column by column; B is [columns, depth].
template <class Layout>
void compare_layout(const char* what, Layout layout, int rows, bool transposed,
                    Place (*place)(int, int)) {
  const int count = int(cute::size<1>(layout));
  if (int(cute::size<0>(layout)) != 32) ++differences;
  for (int lane = 0; lane < 32; ++lane)
    for (int index = 0; index < count; ++index) {
      const int element = int(layout(lane, index));
      const int row = element % rows, column = element / rows;
      compare(what, lane, index, place(lane, index), transposed ? column : row,
              transposed ? row : column);
    }
}

template <class Operation>
void compare_mma(const char* what, Place (*a)(int, int), Place (*b)(int, int)) {
  using Traits = cute::MMA_Traits<Operation>;
  std::printf("%s\n", what);
  compare_layout("a", typename Traits::ALayout{}, 16, false, a);
  compare_layout("b", typename Traits::BLayout{}, 8, true, b);
  compare_layout("c", typename Traits::CLayout{}, 16, false, facenet::emulation::c_place);
}

// Source and destination number the same bits: lane l passes bits 128 l to 128 l + 127, and gets
// register i in what the destination's layout calls values 32 i to 32 i + 31 of the lane.
void compare_ldmatrix() {
  using Traits = cute::Copy_Traits<cute::SM75_U32x4_LDSM_N>;
  std::printf("ldmatrix\n");
  const typename Traits::SrcLayout source;
  const typename Traits::DstLayout destination;
  for (int lane = 0; lane < 32; ++lane)
    for (int index = 0; index < 4; ++index)
      for (int half = 0; half < 2; ++half) {
        const MatrixSource ours = facenet::emulation::matrix_source(lane, index);
        const int from = int(source(ours.lane, 16 * (ours.column + half)));
        const int to = int(destination(lane, 32 * index + 16 * half));
        if (from == to) continue;
        ++differences;
        std::printf("lane %d, register %d, half %d: bit %d here, %d in CuTe\n", lane, index, half,
                    from, to);
      }
}

}  // namespace

int main() {
  using namespace facenet::emulation;
  compare_mma<cute::SM80_16x8x16_F32BF16BF16F32_TN>("bf16", a_place_16, b_place_16);
  compare_mma<cute::SM80_16x8x16_F32F16F16F32_TN>("f16", a_place_16, b_place_16);
  compare_mma<cute::SM80_16x8x8_F32TF32TF32F32_TN>("tf32", a_place_8, b_place_8);
  compare_ldmatrix();
  std::printf("%d differences\n", differences);
  return differences != 0;
}
