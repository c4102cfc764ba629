"""Makes any network that maps images to rows of numbers one of this project's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from facenet_ext.models.network import NormalizedNetwork, evaluating


class WrappedNetwork(NormalizedNetwork):
    """Any network from [N, *input_shape] to [N, D], its inputs standardised, its outputs length 1.

    The network embeds two random inputs once, which tells D and its last layer.

    Args:
        network: what it returns must be one floating-point tensor.
        input_shape: shape of one input; (channels, height, width) for an image.
        standardize: standardise each image by itself; False gives the network what comes in.
        channels_last: lay out weights and images channels-last, unless the network refuses that.

    Raises:
        ValueError: the network has nothing to train, or does not map such inputs to [N, D].

    Example:
        >>> network = WrappedNetwork(nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), (3, 2, 2))
        >>> network(torch.rand(5, 3, 2, 2)).norm(dim=1).round(decimals=3).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0]
        >>> network.head
        ['network.1']

    Source: this project.
    """

    body = "network"

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, ...],
        *,
        standardize: bool = True,
        channels_last: bool = True,
    ) -> None:
        images = len(input_shape) == 3
        super().__init__(input_shape, 0, standardize=standardize and images)
        self.network = network
        self.channels_last = channels_last and images
        if not any(parameter.requires_grad for parameter in network.parameters()):
            raise ValueError("it has no parameters to train")
        try:
            self.embedding_dim, self.head = self._probe()
        except ValueError:
            if not self.channels_last:
                raise
            self.channels_last = False
            self.embedding_dim, self.head = self._probe()
        if self.channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def raw_embeddings(self, inputs: Tensor) -> Tensor:
        """Return what the network returns."""
        if self.channels_last:
            inputs = inputs.to(memory_format=torch.channels_last)
        elif inputs.ndim == 4:  # contiguous() keeps the strides where there is one channel
            inputs = inputs.clone(memory_format=torch.contiguous_format)
        embeddings: Tensor = self.network(inputs)
        return embeddings

    def on_features(self, keep: Callable[[Tensor], None]) -> RemovableHandle:
        """Call a function with the input of the last layer in each forward."""
        if not self.head:
            return super().on_features(keep)
        first = self.get_submodule(self.head[0])
        return first.register_forward_pre_hook(lambda _module, inputs: keep(inputs[0]))

    @torch.no_grad()
    def _probe(self) -> tuple[int, list[str]]:
        """Return D, and the names of the last layer with weight matrices and of what follows it."""
        called: list[str] = []
        hooks = [
            module.register_forward_hook(lambda *_, name=name: called.append(name))
            for name, module in self.named_modules()
            if not any(True for _ in module.children())
        ]
        weight = next(self.parameters())
        try:
            with torch.random.fork_rng(devices=[]), evaluating(self):
                inputs = torch.rand(2, *self.input_shape, dtype=weight.dtype)
                if len(self.input_shape) == 3:  # strides as of the images of a run
                    inputs = inputs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
                embeddings = self.raw_embeddings(inputs.to(weight.device))
        except Exception as error:  # any: the code is not ours
            shape = "x".join(map(str, self.input_shape))
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"it does not embed 2 inputs of {shape} ({type(error).__name__}: {reason})"
            ) from error
        finally:
            for hook in hooks:
                hook.remove()
        if not isinstance(embeddings, Tensor):
            raise ValueError(
                f"it must return one tensor [N, D], it returned {type(embeddings).__name__}"
            )
        if embeddings.ndim != 2 or len(embeddings) != 2 or not embeddings.is_floating_point():
            raise ValueError(
                f"it must return [N, D] of floating point, of 2 inputs it returned "
                f"{list(embeddings.shape)} of {embeddings.dtype}"
            )
        return embeddings.shape[1], self._last_of(called)

    def _last_of(self, called: list[str]) -> list[str]:
        """Return the end of a list of layers, from the last one that has a weight matrix."""
        for place in reversed(range(len(called))):
            layer = self.get_submodule(called[place])
            if any(parameter.ndim > 1 for parameter in layer.parameters()):
                return list(dict.fromkeys(called[place:]))
        return []
