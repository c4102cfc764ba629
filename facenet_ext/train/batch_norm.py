"""Batch normalisation over the batch of all processes."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.plugins.layer_sync import LayerSync, TorchSyncBatchNorm
from torch import Tensor, nn

from facenet_ext._ranks import Ranks


class SyncBatchNorm(LayerSync):
    """Replace batch normalisation by a synchronised one: torch's on GPUs, and ours on CPUs."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the layers before training."""
        if Ranks.of().device != torch.device("cpu"):
            return TorchSyncBatchNorm().apply(model)
        for name, child in model.named_children():
            if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                setattr(model, name, _OverRanks.of(child))
            else:
                self.apply(child)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Put torch's other layers back after training; ours compute the same in evaluation."""
        return TorchSyncBatchNorm().revert(model)


class _OverRanks(nn.BatchNorm2d):
    """Normalise by mean and variance over the rows of all ranks, which may have unequal numbers.

    The input may have any number of dimensions.
    """

    @classmethod
    def of(cls, layer: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d) -> _OverRanks:
        """Return a layer with the same parameters and averages, not copies of them."""
        made = cls(layer.num_features, layer.eps, layer.momentum, layer.affine)
        made._parameters.update(layer._parameters)
        made._buffers.update(layer._buffers)
        return made.train(layer.training)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """Return ``[N, C, ...]``, the input's shape."""
        if not self.training:
            return super().forward(input)
        channels = (1, -1, *[1] * (input.ndim - 2))
        others = [dim for dim in range(input.ndim) if dim != 1]
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        count = x.new_tensor([x.numel() / x.shape[1]])
        total = _sum_over_ranks(torch.cat([x.sum(others), count]))
        mean, n = total[:-1] / total[-1], total[-1].detach()
        x = x - mean.view(channels)
        variance = _sum_over_ranks(x.square().sum(others)) / n
        self._average(mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
        x = x * (variance + self.eps).rsqrt().view(channels)
        if self.affine:
            x = x * self.weight.view(channels) + self.bias.view(channels)
        return x.to(input.dtype)

    @torch.no_grad()
    def _average(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    result: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return result


class _Sum(torch.autograd.Function):
    """The sum over ranks; each rank's gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return Ranks.of().all_reduce(tensor.clone())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return Ranks.of().all_reduce(grads[0].clone())
