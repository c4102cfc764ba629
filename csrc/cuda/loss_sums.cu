#include "cuda/loss_sums.cuh"

namespace facenet::cuda {
namespace {

constexpr int kReduceThreads = 512;

template <class T, class Count>
__global__ void __launch_bounds__(kReduceThreads)
    reduce_losses(const LossSums<T, Count> sums, const int32_t anchors, const LossReduction<T> to) {
  reduce_by_block<kReduceThreads, 4>(sums, anchors, to);
}

}  // namespace

template <class T, class Count>
void reduce(const Device& device, const Sizes& sizes, const LossSums<T, Count>& sums,
            int32_t anchors, const LossReduction<T>& to) {
  launch("reduce_losses", sizes, device.stream(), {1, kReduceThreads}, reduce_losses<T, Count>,
         sums, anchors, to);
}

template void reduce(const Device&, const Sizes&, const LossSums<float, int32_t>&, int32_t,
                     const LossReduction<float>&);
template void reduce(const Device&, const Sizes&, const LossSums<double, int32_t>&, int32_t,
                     const LossReduction<double>&);
template void reduce(const Device&, const Sizes&, const LossSums<float, int64_t>&, int32_t,
                     const LossReduction<float>&);
template void reduce(const Device&, const Sizes&, const LossSums<double, int64_t>&, int32_t,
                     const LossReduction<double>&);

}  // namespace facenet::cuda
