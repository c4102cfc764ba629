// What a main loop hands to an epilogue: each thread's 8 x 8 distances of a tile.
//
// The main loop decides which rows and columns of the tile those are, by its tile_row(r) and
// tile_column(c). They are known at compile time, except for the thread's number.
#pragma once

#include <cstdint>

namespace facenet::cuda {

template <class T>
struct ThreadTile {
  T d[8][8];
};

// Where a block of the pair stream works: a tile of anchors against a stripe of candidates.
struct Stripes {
  int32_t tiles_per_stripe;  // of candidates; 0: the candidates of the anchors' own classes
  bool from_diagonal;        // leave out the tiles whose transpose another block has
};

// A kernel that may turn out not to be needed, decided on the device: it runs where *flag == value.
struct Guard {
  const int32_t* flag;  // null: always
  int32_t value;
  __device__ bool open() const { return flag == nullptr || *flag == value; }
};

}  // namespace facenet::cuda
