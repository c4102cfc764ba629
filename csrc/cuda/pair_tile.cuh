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

}  // namespace facenet::cuda
