// The edges of one row, as gather_edges finds them.
#pragma once

#include "cuda/edges.h"
#include "cuda/push_table.cuh"
#include "cuda/warp.cuh"

namespace facenet::cuda {

constexpr int kGatherWarps = 4;  // of the block that has a row

// An edge that a row found in the table: its sorted anchor, and where the weight is.
struct FoundEdge {
  int32_t anchor, at;
};

// Groups of anchors that a warp looks at, and edges that it has room for: all anchors may push the
// row.
template <class T>
__host__ __device__ int32_t groups_of_warp(const PushTable<T>& pushes) {
  return (pushes.groups + kGatherWarps - 1) / kGatherWarps;
}
template <class T>
__host__ __device__ int32_t found_room(const PushTable<T>& pushes) {
  return groups_of_warp(pushes) * pushes.anchors;
}

// The edges of a row that are counted through, in shared memory: those to its class, its own to
// negatives and the sorted ones.
struct CountedEdges {
  int32_t row, position;
  int32_t slots;  // the first of the row as an anchor, of less than 2^31,
  int32_t count;  // and how many
  int32_t class_begin, class_count, negatives;
  // Of the first anchor of the class the slot of its edge to the row, and how far behind it that of
  // the next anchor is. 0: they have no slots.
  int32_t positive_slot, apart;
  int64_t incoming[2];  // begin and end

  // Two threads look up a part each.
  template <class T>
  __device__ void look_up_slots(const Gathered<T>& g, int32_t at) {
    const SlotEdges<T>& s = g.slot_edges;
    position = at;
    slots = g.as_anchors ? int32_t(s.slots.offset[at]) : 0;
    count = g.as_anchors ? s.slots.count[at] : 0;
    negatives = g.as_anchors && s.negative != nullptr ? count + 1 : 0;
    if (!g.as_candidates) {
      class_begin = g.as_anchors ? s.class_begin[at] : 0;
      class_count = count;
      positive_slot = apart = 0;
    }
  }
  template <class T>
  __device__ void look_up_class(const Gathered<T>& g, int32_t at) {
    const SlotEdges<T>& s = g.slot_edges;
    const int32_t own = g.rows.row(at);
    if (g.as_candidates) {
      // Of its own batch, an anchor's class is the same on both sides.
      class_begin = g.anchors_begin[at];
      class_count = g.anchors_end[at] - class_begin;
      // Anchors of a class have as many slots. What is there is loaded without a branch, at once.
      const int32_t anchor = class_count > 0 ? class_begin : 0;
      const int64_t first = s.slots.offset[anchor];
      const int64_t next = s.slots.offset[anchor + (class_count > 0 ? 1 : 0)];
      const bool some = class_count > 0 && s.slots.count[anchor] > 0;
      positive_slot = some ? int32_t(first) + at - s.class_begin[anchor] : 0;
      apart = some ? int32_t(next - first) : 0;
    }
    row = own;
  }
};

// A row's edges, as the lanes of one warp find them: of those that are counted through warp w has
// every fourth from w on. Behind them come the edges that the warp found in the table.
template <class T>
struct Edges {
  const Gathered<T>& g;
  const CountedEdges& all;
  const FoundEdge* found = nullptr;  // [found_count] in shared memory
  int32_t found_count = 0;

  __device__ Edges(const Gathered<T>& from, const CountedEdges& counted) : g(from), all(counted) {}

  // Those of the warp.
  __device__ int32_t counted(int warp) const {
    const int64_t number = all.incoming[1] - all.incoming[0] + all.class_count + all.negatives;
    return int32_t((number + kGatherWarps - 1 - warp) / kGatherWarps);
  }

  // The one of that number among the warp's `counted` and those that it found. Its kind says where
  // the other row and the weight are. Then lanes with edges of all kinds load them together.
  __device__ Edge<T> get(int32_t number, int32_t counted, int warp) const {
    const SlotEdges<T>& s = g.slot_edges;
    const int32_t* row = nullptr;
    const T *weight = nullptr, *second = nullptr;
    int32_t position = 0;
    int64_t e = int64_t(number) * kGatherWarps + warp;
    if (number >= counted) {
      const FoundEdge edge = found[number - counted];
      position = edge.anchor;
      weight = g.pushes.weight + edge.at;
    } else if (e < all.class_count) {
      position = all.class_begin + int32_t(e);
      if (all.count > 0) weight = s.positive + all.slots + e;
      if (all.apart > 0) second = s.positive + all.positive_slot + int32_t(e) * all.apart;
    } else if ((e -= all.class_count) < all.negatives) {
      const int64_t at = e < all.count ? all.slots + e : s.slot_total + all.position;
      row = reinterpret_cast<const int32_t*>(s.negative + at);
      weight = s.weight + at * s.weights_apart;  // 0 where there is no row
    } else {
      const Edge<T>* const edge = g.incoming.edge + all.incoming[0] + e - all.negatives;
      row = &edge->other;
      weight = &edge->weight;
    }
    if (row == nullptr && g.others.order != nullptr) row = g.others.order + position;
    Edge<T> edge{position, T(0)};
    if (row != nullptr) edge.other = *row;
    if (weight != nullptr) edge.weight = *weight;
    if (second != nullptr) edge.weight += *second;
    return edge;
  }

  // By a warp: those of its share of the groups that push the row -> `edges`.
  __device__ void find(int warp, int32_t row, FoundEdge* edges) {
    const PushTable<T>& pushes = g.pushes;
    const int32_t each = groups_of_warp(pushes), end = min(each * (warp + 1), pushes.groups);
    const PushCell* const cells = pushes.cells + int64_t(row / PushCell::kRows) * pushes.groups;
    const int j = row % PushCell::kRows;
    edges += found_room(pushes) * warp;
    for (int32_t base = each * warp; base < end; base += 64) {  // a lane has two groups
      const int32_t group = base + 2 * lane();
      const int32_t a = min(group, end - 1), b = min(group + 1, end - 1);
      const PushCell cells_of[2] = {cells[a], cells[b]};
      const int32_t begin[2] = {pushes.begin[a], pushes.begin[b]};
      const uint32_t of_first = group < end ? pushers(cells_of[0], j) : 0;
      uint32_t bits = of_first | (group + 1 < end ? pushers(cells_of[1], j) << 16 : 0);
      // Where the first edge of each is, less the edges that the lane has before it.
      const int32_t at = begin[0] + first_push(cells_of[0], j);
      const int32_t at_second = begin[1] + first_push(cells_of[1], j) - __popc(of_first);
      // Lanes with the smaller groups come first.
      int32_t all = __popc(bits);
      int32_t before = found_count - all;
#pragma unroll
      for (int apart = 1; apart < 32; apart *= 2) {
        const int32_t other = __shfl_up_sync(kAllLanes, all, apart);
        if (lane() >= apart) all += other;
      }
      before += all;
      found_count += __shfl_sync(kAllLanes, all, 31);
      const int32_t first = pushes.anchors * group, second = first + pushes.anchors - 16;
      for (int32_t n = 0; bits != 0; ++n, bits &= bits - 1) {
        const int b = __ffs(int(bits)) - 1;
        edges[before + n] = {b + (b < 16 ? first : second), n + (b < 16 ? at : at_second)};
      }
    }
    __syncwarp();
    found = edges;
  }
};

}  // namespace facenet::cuda
