#include "cpu/edges.h"

#include <algorithm>

#include "cpu/parallel.h"

namespace facenet::cpu {
namespace {

constexpr int64_t kRowGrain = 32;
// Slices of a counting sort. It is stable, so the result does not depend on their number.
constexpr int64_t kSlices = 8;

}  // namespace

template <class T>
EdgeList<T> transpose(const EdgeList<T>& edges, int64_t other_rows) {
  EdgeList<T> result(other_rows, edges.edges());
  const int64_t grain = std::max<int64_t>(1, (edges.rows + kSlices - 1) / kSlices);
  const int64_t slices = (edges.rows + grain - 1) / grain;
  const double work = 8.0 * double(edges.edges());

  // counts[s, r]: edges of slice s that push row r.
  Buffer<int64_t> counts(slices * other_rows);
  std::fill(counts.begin(), counts.end(), 0);
  parallel_rows(edges.rows, grain, work, [&](int64_t begin, int64_t end) {
    int64_t* count = counts.data() + begin / grain * other_rows;
    for (int64_t e = edges.begin[begin]; e < edges.begin[end]; ++e) ++count[edges.other[e]];
  });
  // next[s, r]: where slice s puts its next edge of row r. Each takes the place of its count, which
  // nothing reads again.
  int64_t* const next = counts.data();
  int64_t total = 0;
  for (int64_t r = 0; r < other_rows; ++r) {
    result.begin[r] = total;
    for (int64_t s = 0; s < slices; ++s) {
      const int64_t count = counts[s * other_rows + r];
      next[s * other_rows + r] = total;
      total += count;
    }
  }
  result.begin[other_rows] = total;
  parallel_rows(edges.rows, grain, work, [&](int64_t begin, int64_t end) {
    int64_t* slot = next + begin / grain * other_rows;
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t e = edges.begin[i]; e < edges.begin[i + 1]; ++e) {
        const int64_t to = slot[edges.other[e]]++;
        result.other[to] = int32_t(i);
        result.coefficient[to] = edges.coefficient[e];
      }
    }
  });
  return result;
}

template <class T>
void gather(const Rows<T>& x, const std::vector<Edges<T>>& sets, Distance distance, T scale, T* out,
            bool add) {
  const int64_t dim = x.dim();
  double edges = 0;
  for (const Edges<T>& set : sets) edges += double(set.begin[x.count()]);
  parallel_rows(x.count(), kRowGrain, edges * double(dim) / 8, [&](int64_t begin, int64_t end) {
    kernels<T>().gather_edges(x.values(), dim, begin, end, sets.data(), int(sets.size()), scale,
                              add, out);
    if (distance != Distance::kCosine) return;
    // x^ = x / |x|: the gradient keeps what is orthogonal to x^, over |x|.
    for (int64_t r = begin; r < end; ++r) {
      const T* unit = x.row(r);
      T* g = out + r * dim;
      double along = 0;
      for (int64_t k = 0; k < dim; ++k) along += double(g[k]) * double(unit[k]);
      const T inverse = x.inverse_norms()[r];
      for (int64_t k = 0; k < dim; ++k) {
        g[k] = inverse == T(0) ? T(0) : (g[k] - T(along) * unit[k]) * inverse;
      }
    }
  });
}

template EdgeList<float> transpose(const EdgeList<float>&, int64_t);
template EdgeList<double> transpose(const EdgeList<double>&, int64_t);
template void gather(const Rows<float>&, const std::vector<Edges<float>>&, Distance, float, float*,
                     bool);
template void gather(const Rows<double>&, const std::vector<Edges<double>>&, Distance, double,
                     double*, bool);

}  // namespace facenet::cpu
