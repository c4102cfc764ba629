"""Prepares examples and embeds them with a network, in plain torch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from facenet_ext._network_names import ANY_LENGTH
from facenet_ext.common.errors import InputError
from facenet_ext.embedding.crop_resize import CropResize
from facenet_ext.embedding.networks import build_head, build_network
from facenet_ext.embedding.options import Options
from facenet_ext.embedding.provenance import Training


class Embedder(nn.Module):
    """Embed examples as they come from files.

    Args:
        options: of the run that trains it.
        shape: of one example: [C, H, W] for images, anything else for features.

    Attributes:
        network: embeds prepared examples.
        head: what transforms the mean of an example's views: see :func:`.build_head`.
        prepare: cuts and scales images to the network's input.
        images: whether the examples are images.
        matches: the SHA-256 of an older model's checkpoint whose embeddings these can be compared
            with, or None.
        provenance: what is known of the training.

    Raises:
        InputError: the network does not fit its input.

    Example:
        >>> from facenet_ext.embedding.options import ModelOptions
        >>> options = Options(model=ModelOptions(width=8, embedding_dim=16))
        >>> embedder = Embedder(options, (1, 96, 96)).eval()
        >>> embedder(torch.zeros(2, 1, 96, 96, dtype=torch.uint8)).shape
        torch.Size([2, 16])
    """

    def __init__(self, options: Options, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.options = options
        self.shape = shape
        self.images = len(shape) == 3
        self.network = build_network(options, shape)
        self.head = build_head(options, self.network)
        self.prepare = CropResize(options.data.crop, options.data.input_size)
        self.matches: str | None = None
        self.provenance = Training(options.data.data)

    @property
    def embedding_dim(self) -> int:
        """D, the length of an embedding."""
        return self.head.embedding_dim

    @property
    def device(self) -> torch.device:
        """Where the weights are, and where examples must be."""
        return next(self.parameters()).device

    @property
    def flips(self) -> bool:
        """Whether an embedding is the mean with that of the mirror image."""
        return self.options.flips

    def forward(self, examples: Tensor) -> Tensor:
        """Embed examples as they are, without augmentation: [N, D] float32.

        Images are [N, C, H, W] uint8. Their embedding is the mean direction over nine shifted crops
        if ``--test-shift`` is above 0, and over mirror images if the run trained with ``--flip``
        and not ``--test-flip false``: of spectrograms these run backwards.
        """
        if not self.images:
            views = [examples, examples.flip(-1)] if self.flips else [examples]
            return self._embeddings_of([self.network(view) for view in views], examples)
        shift = self.options.data.test_shift
        moves = [(x, y) for x in (-shift, 0, shift) for y in (-shift, 0, shift)] if shift else []
        views = []
        for move in moves or [(0.0, 0.0)]:
            inputs = self.prepare(examples, move).to(memory_format=torch.channels_last)
            views.append(self.network(inputs))
            if self.flips:
                views.append(self.network(inputs.flip(3)))
            if move == (0, 0):
                central = inputs
        return self._embeddings_of(views, central)

    def _embeddings_of(self, views: list[Tensor], inputs: Tensor) -> Tensor:
        """Return the embeddings of inputs from the network's embeddings of their views."""
        embeddings = views[0] if len(views) == 1 else normalize(torch.stack(views).sum(0))
        transformed: Tensor = self.head(embeddings, inputs)
        return transformed

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether it embeds examples of a shape; images and sequences may have any size."""
        if len(shape) != len(self.shape):
            return False
        any_length = self.images or (self.options.model.model in ANY_LENGTH and len(shape) == 2)
        return shape[0] == self.shape[0] if any_length else shape == self.shape

    @torch.no_grad()
    def embed(self, examples: Tensor, views: str = "all") -> Tensor:
        """Embed a batch without gradients, and check the embeddings.

        Args:
            examples: [B, ...], on any device.
            views: "all" embeds as ``forward`` does, "one" as :meth:`embed_once` does, and "network"
                as the network alone does, without the head.

        Returns:
            [B, D] float32 on the CPU.

        Raises:
            InputError: an embedding is NaN or infinite.
        """
        ways: dict[str, Callable[[Tensor], Tensor]] = {
            "all": self.__call__,
            "one": self.embed_once,
            "network": self._through_network,
        }
        embeddings = ways[views](examples.to(self.device)).float().cpu()
        if not bool(embeddings.isfinite().all()):
            kind = "images" if self.images else "features"
            raise InputError(
                f"the network embeds {kind} as NaN or infinity: train it with a lower `lr`, or "
                "with `precision` 32-true"
            )
        return embeddings

    def embed_once(self, examples: Tensor) -> Tensor:
        """Embed examples by one pass through the network; of images it sees the central crop."""
        inputs = self.inputs(examples)
        return self._embeddings_of([self.network(inputs)], inputs)

    def inputs(self, examples: Tensor) -> Tensor:
        """Return what the network sees of examples: of images the central crop."""
        if not self.images:
            return examples
        inputs: Tensor = self.prepare(examples)
        return inputs.to(memory_format=torch.channels_last)

    def _through_network(self, examples: Tensor) -> Tensor:
        embeddings: Tensor = self.network(self.inputs(examples))
        return embeddings
