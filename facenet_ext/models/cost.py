"""What a network costs: parameters, multiply-adds, time."""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from facenet_ext.models.network import NormalizedNetwork, evaluating


class LayerCost(NamedTuple):
    """What one layer of a network costs for one image.

    Attributes:
        name: the layer's name.
        output: shape of its output for one image.
        parameters: number of weights and biases.
        macs: multiply-adds, as the FaceNet paper counts them: (weights + biases) of convolutions
            and linear layers times the positions they are applied at.
    """

    name: str
    output: tuple[int, ...]
    parameters: int
    macs: int


def layer_costs(network: NormalizedNetwork) -> list[LayerCost]:
    """Count what each layer costs, by running the network without data.

    Args:
        network: any of :mod:`facenet_ext.models`; it is not changed.

    Returns:
        One entry for each of ``network.layers()``: for an :class:`.EmbeddingNetwork`, the children
        of its features and its last layer.

    Example:
        >>> from facenet_ext.models import nn4
        >>> costs = layer_costs(nn4())
        >>> sum(cost.parameters for cost in costs), costs[0]
        (6607888, LayerCost(name='conv1', output=(64, 48, 48), parameters=9472, macs=21823488))

    Source: FaceNet, tables 1 and 2, which this count reproduces.
    """
    costs: list[LayerCost] = []
    macs = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        positions = output[0, 0].numel() if isinstance(module, nn.Conv2d) else 1
        macs += positions * sum(p.numel() for p in module.parameters())

    def close(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal macs
            parameters = sum(p.numel() for p in module.parameters())
            costs.append(LayerCost(name, tuple(output.shape[1:]), parameters, macs))
            macs = 0

        return hook

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ] + [module.register_forward_hook(close(name)) for name, module in network.layers()]
    try:
        with torch.no_grad(), evaluating(network):
            meta = {name: tensor.to("meta") for name, tensor in network.state_dict().items()}
            with torch.device("meta"):
                images = torch.empty(1, *network.input_shape)
                torch.func.functional_call(network, meta, images)
    finally:
        for hook in hooks:
            hook.remove()
    return costs


@torch.inference_mode()
def milliseconds_per_image(network: NormalizedNetwork, batch: int = 8, repeats: int = 5) -> float:
    """Measure how long embedding takes, on the network's device.

    Args:
        network: measured in evaluation mode; its mode is restored.
        batch: inputs embedded at once.
        repeats: how often to measure; the median is returned.

    Returns:
        Milliseconds per input.
    """
    weight = next(network.parameters())
    inputs = torch.rand(batch, *network.input_shape, device=weight.device, dtype=weight.dtype)
    if inputs.ndim == 4:
        inputs = inputs.to(memory_format=torch.channels_last)
    with evaluating(network):  # cpu() waits for a GPU to finish
        times = timeit.repeat(lambda: network(inputs).cpu(), number=1, repeat=repeats + 1)
    return 1000 * statistics.median(times[1:]) / batch
