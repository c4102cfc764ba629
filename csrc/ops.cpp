// Every operator's schema. Backends register their kernels in csrc/cpu and csrc/cuda; shapes
// without data and gradients are registered in facenet_ext/ops.
//
//   M anchors, N candidates (= M, the anchors themselves, without ref_emb), D dimensions,
//   T triplets. Floating outputs are float32, or float64 for float64 embeddings.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(facenet_ext, m) {
  // x [M, D], y [N, D] (none: x) -> [M, N]
  m.def("pairwise_squared_distance(Tensor x, Tensor? y) -> Tensor");

  // emb [M, D], labels [M], ref_emb [N, D], ref_labels [N], anchor_ids [M], ref_ids [N];
  // seed [1], the number that random rules draw from, or [1 + M], with the row of each anchor in
  // the whole batch behind it; a tensor, so that the host need not synchronise to read it
  //   -> anchor, positive, negative, all [T] int64; d_ap, d_an, both [T]
  m.def(
      "select_triplets(Tensor emb, Tensor labels, Tensor? ref_emb, Tensor? ref_labels, "
      "Tensor? anchor_ids, Tensor? ref_ids, Tensor? seed, str positives, str negatives, "
      "float margin, bool within_margin, str fallback, str distance, float cutoff, "
      "float nonzero_loss_cutoff) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor)");

  // Counts pairs by the bin of their distance. A window begins at each `low` and has `bins` bins of
  // 2^shift numbers; `low` and the width are in the bits of the distance's type. Columns: below all
  // windows, bins, a gap, bins, ..., beyond all windows, infinity and NaN. In self mode each pair
  // counts once.
  //   -> [2, windows * (bins + 1) + 2] int64: pairs of equal labels, and of others
  m.def(
      "distance_histogram(Tensor emb, Tensor labels, Tensor? ref_emb, Tensor? ref_labels, "
      "str distance, int[] low, int shift, int bins) -> Tensor");

  // The k closest rows of ref_emb (none: of emb, but the row itself), the closest first; ties by
  // index. Places beyond the last row have infinity and -1.
  //   -> distances [M, k], indices [M, k] int64
  m.def("nearest(Tensor emb, Tensor? ref_emb, int k, str distance) -> (Tensor, Tensor)");

  // Pairs of rows no farther apart than the radius, in any order; in self mode each once, (i, j)
  // with i < j. At most `capacity` pairs are returned; the count is of all.
  //   -> pairs [capacity, 2] int64, distances [capacity], count [] int64
  m.def(
      "pairs_within(Tensor emb, Tensor? ref_emb, float radius, str distance, int capacity) "
      "-> (Tensor, Tensor, Tensor)");

  // anchor, positive, negative [T]; the last two are rows of ref_emb where it is given
  // swap: d(a,n) is the smaller of d(a,n) and d(p,n)
  //   -> losses [T]
  m.def(
      "triplet_losses(Tensor emb, Tensor? ref_emb, Tensor anchor, Tensor positive, "
      "Tensor negative, float margin, str distance, bool smooth, bool swap) -> Tensor");
  // grad [T] -> gradient of emb [M, D] and of ref_emb [N, D] (empty without it)
  m.def(
      "triplet_losses_backward(Tensor grad, Tensor emb, Tensor? ref_emb, Tensor anchor, "
      "Tensor positive, Tensor negative, float margin, str distance, bool smooth, bool swap) "
      "-> (Tensor, Tensor)");

  // select_triplets, triplet_losses, the reduction and the gradient in one pass
  // max_per_class: no label has more candidates (0: unknown). A GPU then need not count them, which
  // would make the host synchronise
  //   -> loss []; its gradient in emb [M, D] and in ref_emb [N, D] (empty where not asked for);
  //   totals [3] float64: the losses' sum, and its divisors for "mean" and for "mean_nonzero"
  m.def(
      "mined_triplet_loss(Tensor emb, Tensor labels, Tensor? ref_emb, Tensor? ref_labels, "
      "Tensor? anchor_ids, Tensor? ref_ids, Tensor? seed, str positives, str negatives, "
      "float margin, bool within_margin, str fallback, str distance, float cutoff, "
      "float nonzero_loss_cutoff, int max_per_class, bool smooth, str reduction, bool emb_grad, "
      "bool ref_grad) -> (Tensor, Tensor, Tensor, Tensor)");

  // the loss over every triplet of a kind ("all", "hard", "semihard", "easy"), its gradients and
  // totals
  m.def(
      "triplet_margin_loss(Tensor emb, Tensor labels, Tensor? ref_emb, Tensor? ref_labels, "
      "Tensor? anchor_ids, Tensor? ref_ids, str triplets, float margin, str distance, "
      "int max_per_class, bool smooth, str reduction, bool emb_grad, bool ref_grad) "
      "-> (Tensor, Tensor, Tensor, Tensor)");

  // the loss ("supcon", "ntxent") of a softmax over each anchor's pairs by their cosine, its
  // gradients and totals
  // partial: the batch is a part of one whose other parts may have a negative, so that the loss is
  // not 0 where this part has none
  m.def(
      "softmax_loss(Tensor emb, Tensor labels, Tensor? ref_emb, Tensor? ref_labels, "
      "Tensor? anchor_ids, Tensor? ref_ids, str loss, float temperature, bool partial, "
      "str reduction, bool emb_grad, bool ref_grad) -> (Tensor, Tensor, Tensor, Tensor)");
}
