// Negatives of the random rules: drawn by RandomEpilogue, then measured.
#include "cuda/epilogues/random.cuh"
#include "cuda/search.cuh"
#include "cuda/slots.cuh"

namespace facenet::cuda {
namespace {

// A warp per anchor: every slot gets its positive's word, and no key yet. The d_ap of a slot that
// the rule leaves out becomes NaN.
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    begin_draws(const Pairs<T> pairs, const Slots slots, const PositiveRule positives,
                const Seed seed, const SearchArrays<T> work, const SelectionArrays<T> to) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  const int64_t offset = slots.offset[i];
  const int32_t count = slots.count[i];
  const bool one = positives != PositiveRule::kAll;
  const int32_t only =
      one ? extreme_slot(to.d_ap + offset, count, positives == PositiveRule::kHardest) : -1;
  __syncwarp();  // the distances are read no more
  const uint32_t word = anchor_words(seed, uint32_t(pairs.anchors.row(int32_t(i)))).positives;
  for (int32_t k = lane(); k < count; k += 32) {
    const uint32_t row = uint32_t(pairs.candidates.row(pairs.class_begin[i] + k));
    work.positive_word[offset + k] = row_word(word, row);
    work.drawn[offset + k] = kNoKey;
    if (one && k != only) to.d_ap[offset + k] = T(NAN);
  }
  if (lane() == 0) {
    to.bucket_count[i] = count;
    to.farthest.key[i] = kNoKey;
  }
}

// A warp per anchor: each slot's negative, the row of its key, is measured. It becomes the winner
// of a bucket of its own.   drawn [slots] -> choice, bucket [slots]
template <class T>
__global__ void __launch_bounds__(kBlock, 2)
    measure_drawn(const Pairs<T> pairs, const Slots slots, const SearchArrays<T> work,
                  const SelectionArrays<T> to) {
  const int64_t i = warp_number();
  if (i >= pairs.anchors.count) return;
  const int32_t anchor = pairs.anchors.row(int32_t(i));
  for (int32_t k = lane(); k < slots.count[i]; k += 32) {
    const int64_t slot = slots.offset[i] + k;
    const uint64_t drawn = work.drawn[slot];
    to.choice[slot] = drawn == kNoKey ? kNotSelected : k;
    to.bucket.key[slot] = kNoKey;
    if (drawn == kNoKey) continue;
    const uint32_t negative = key_index(drawn);
    const T d = row_distance(pairs.anchors, anchor, pairs.candidates, int32_t(negative));
    if constexpr (sizeof(T) == 4) {
      to.bucket.key[slot] = closer_key(d, negative);
    } else {
      to.bucket.key[slot] = bits_of(d);
      to.bucket.index[slot] = negative;
    }
  }
}

}  // namespace

template <class T>
void search_random(const Device& device, const Pairs<T>& pairs, const Slots& slots,
                   const TripletRule& rule, const SearchArrays<T>& work,
                   const SelectionArrays<T>& to) {
  const Sizes sizes = sizes_of(pairs).with("slots", to.slots);
  const LaunchShape by_anchor{blocks_of_warps(pairs.anchors.count), kBlock};
  launch("begin_draws", sizes, device.stream(), by_anchor, begin_draws<T>, pairs, slots,
         rule.positives, rule.seed, work, to);
  const RandomArguments<T> arguments{
      slots,
      to.d_ap,
      work.positive_word,
      work.drawn,
      rule.seed,
      rule.negatives == NegativeRule::kRandomSemihard,
      T(rule.margin),
      {float(rule.cutoff), float(rule.nonzero_loss_cutoff), float(pairs.anchors.dim)}};
  if (rule.negatives == NegativeRule::kDistanceWeighted) {
    stream_by_differences<T, RandomEpilogue<T, WeightedDraws<T>>>(
        "search for weighted negatives", device, pairs, arguments, Guard{});
  } else {
    stream_by_differences<T, RandomEpilogue<T, UniformDraws<T>>>("search for random negatives",
                                                                 device, pairs, arguments, Guard{});
  }
  launch("measure_drawn", sizes, device.stream(), by_anchor, measure_drawn<T>, pairs, slots, work,
         to);
}

template void search_random(const Device&, const Pairs<float>&, const Slots&, const TripletRule&,
                            const SearchArrays<float>&, const SelectionArrays<float>&);
template void search_random(const Device&, const Pairs<double>&, const Slots&, const TripletRule&,
                            const SearchArrays<double>&, const SelectionArrays<double>&);

}  // namespace facenet::cuda
