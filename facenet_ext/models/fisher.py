"""Describes images by what their patches look like, without a network."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, normalize, pad, unfold

from facenet_ext._precision import full_precision

_DIRECTIONS = 8
_SIDE = 4
"""A patch has 4 by 4 cells, and each cell the strength of edges in 8 directions."""
_STRIDE = 3
"""Pixels from one patch to the next."""
_SPACINGS = (3, 6, 9)
"""Pixels from one cell to the next, for patches of three sizes."""
_IN_ONE = 6
"""Up to this spacing one convolution makes cells; of the largest two take an eighth of the time."""
_REDUCED = 64
_AT_ONCE = 2
"""Images of which all patches are taken. What those of more belong to leaves the caches, and takes
a half longer."""


class FisherVectors(nn.Module):
    r"""Embed images by the Fisher vectors of their patches.

    .. math:: z = \frac{P (v - m)}{\lVert P (v - m) \rVert_2}, \quad
        v = \mathrm{sign}(g) \sqrt{|g|}, \quad
        g_k = \frac{1}{T \sqrt{\pi_k}} \sum_t \gamma_{tk} \left(\frac{x_t - \mu_k}{\sigma_k},
        \frac{(x_t - \mu_k)^2 - \sigma_k^2}{\sqrt 2 \sigma_k^2}\right)

    x_t are the T patches of an image: each is the strength of edges by direction in 4 by 4 cells
    (SIFT), reduced to 64 numbers, with its place in the image. A mixture of K Gaussians, (pi, mu,
    sigma), says what patches look like in general, gamma which Gaussian a patch belongs to, and g
    how the image's patches differ from what is general. All is measured on images of the training,
    and nothing is learned by steps.

    Few thousand images suffice, and its mistakes are not a network's. Before it has been fitted, it
    returns 0.

    Args:
        input_shape: [C, H, W], 28 pixels high and wide or more.
        dim: D, the length of an embedding.
        components: K, Gaussians of the mixture.
        mirror: let an image and its mirror image count together.
        step: take one patch of so many across and down. With 2 an image takes a third of the time.

    Raises:
        ValueError: inputs are no images, or too small.

    Example:
        >>> fisher = FisherVectors((1, 64, 64), 8, components=4)
        >>> fisher.vectors(torch.rand(2, 1, 64, 64)).shape, fisher(torch.rand(2, 1, 64, 64)).shape
        (torch.Size([2, 528]), torch.Size([2, 8]))

    Source: Simonyan, Parkhi, Vedaldi, Zisserman, *Fisher Vector Faces in the Wild*, BMVC 2013;
    Perronnin, Sanchez, Mensink, *Improving the Fisher Kernel*, ECCV 2010; Arandjelovic, Zisserman,
    *Three things everyone should know to improve object retrieval*, CVPR 2012.
    """

    basis: Tensor
    centre: Tensor
    shares: Tensor
    means: Tensor
    deviations: Tensor
    projection: Tensor
    offset: Tensor

    def __init__(
        self,
        input_shape: tuple[int, ...],
        dim: int,
        components: int = 256,
        *,
        mirror: bool = True,
        step: int = 1,
    ) -> None:
        super().__init__()
        smallest = max(_SPACINGS) * (_SIDE - 1) + 1
        if len(input_shape) != 3 or min(input_shape[1:]) < smallest:
            raise ValueError(
                f"Fisher vectors are of images of {smallest} pixels and more, and the inputs are "
                f"{list(input_shape)}"
            )
        self.input_shape = input_shape
        self.embedding_dim = dim
        self.mirror = mirror
        self.step = step
        length, numbers = _REDUCED + 2, 2 * components * (_REDUCED + 2)
        described, _ = self.patch_size
        self.register_buffer("basis", torch.eye(described, _REDUCED))
        self.register_buffer("centre", torch.zeros(described))
        self.register_buffer("shares", torch.full((components,), 1 / components))
        self.register_buffer("means", torch.zeros(components, length))
        self.register_buffer("deviations", torch.ones(components, length))
        self.register_buffer("projection", torch.zeros(numbers, dim))
        self.register_buffer("offset", torch.zeros(dim))

    @property
    def patch_size(self) -> list[int]:
        """How many numbers describe a patch, and its place."""
        return [_DIRECTIONS * _SIDE**2, 2]

    @property
    def fitted(self) -> bool:
        """Whether it has been fitted to images."""
        return bool(self.projection.any())

    def forward(self, inputs: Tensor) -> Tensor:
        """Return [N, D], rows of length 1, of [N, C, H, W] in [0, 1]."""
        with full_precision(inputs):
            return normalize(self.vectors(inputs) @ self.projection - self.offset)

    def vectors(self, inputs: Tensor) -> Tensor:
        """Return the Fisher vectors of images, [N, F], of length 1."""
        if torch.compiler.is_exporting():  # of batches of any size
            return self._vectors(inputs)
        at_once = _AT_ONCE * self.step**2
        return torch.cat([self._vectors(some) for some in torch.split(inputs, at_once)])

    def patches(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Describe all patches of images.

        Returns:
            [N, T, 128], the roots of the shares of each direction and cell, and [T, 2], where the
            patches are, from -1 to 1.
        """
        described, places = [], []
        for cells, apart, grid in _cells(inputs):
            described.append(normalize(unfold(cells.sqrt(), _SIDE, dilation=apart), dim=1))
            places.append(grid.flatten(0, 1))
        return torch.cat(described, 2).transpose(1, 2), torch.cat(places)

    def reduced(self, inputs: Tensor) -> list[Tensor]:
        """Return x, [N, T, 66], of images and, with ``mirror``, of their mirror images.

        64 numbers are of what :meth:`patches` returns first, and 2 the place. The patches of a
        mirror image are those of the image with directions and cells in another order, so one
        convolution by the basis, in both orders, gives both.
        """
        shape = (_DIRECTIONS, _SIDE, _SIDE)
        filters = self.basis.T.reshape(-1, *shape)
        if self.mirror:
            swapped = (_DIRECTIONS // 2 - torch.arange(_DIRECTIONS)) % _DIRECTIONS
            filters = torch.cat([filters, filters[:, swapped].flip(3)])
        box = inputs.new_ones(1, 1, _SIDE, _SIDE)
        parts, places = [], []
        for cells, apart, grid in _cells(inputs):
            strength = cells.sum(1, keepdim=True)
            lengths = conv2d(strength, box, stride=self.step, dilation=apart).sqrt()
            part = conv2d(cells.sqrt(), filters, stride=self.step, dilation=apart) / lengths
            parts.append(part.flatten(2))
            places.append(grid[:: self.step, :: self.step].flatten(0, 1))
        x, place = torch.cat(parts, 2).transpose(1, 2), torch.cat(places)
        origin = self.centre @ self.basis
        sides = torch.split(x, len(origin), 2)
        grids = (place, place * place.new_tensor([1, -1]))
        return [
            torch.cat([side - origin, grid.expand(x.shape[0], -1, -1)], 2)
            for side, grid in zip(sides, grids, strict=False)
        ]

    def _vectors(self, inputs: Tensor) -> Tensor:
        with full_precision(inputs):
            sides = [self._gradient(x) for x in self.reduced(inputs)]
            return sides[0] if len(sides) == 1 else normalize(sides[0] + sides[1])

    def _gradient(self, x: Tensor) -> Tensor:
        """Return v, [N, F], of [N, T, 66]."""
        inverse = self.deviations.square().reciprocal()
        constant = (
            self.shares.log()
            - self.deviations.log().sum(1)
            - 0.5 * (self.means.square() * inverse).sum(1)
        )
        powers = torch.cat([x, x.square(), torch.ones_like(x[:, :, :1])], 2)
        weights = torch.cat([self.means * inverse, -0.5 * inverse, constant[:, None]], 1)
        belongs = torch.softmax(powers @ weights.T, 2)
        length = x.shape[2]
        sums = belongs.transpose(1, 2) @ powers
        first, second, n = torch.split(sums, [length, length, 1], 2)
        offsets = (first - n * self.means) / self.deviations
        spreads = (second - 2 * first * self.means + n * self.means.square()) * inverse - n
        scale = x.shape[1] * self.shares.sqrt()[:, None]
        g = torch.stack([offsets / scale, spreads / (math.sqrt(2) * scale)], 1).flatten(1)
        return normalize(g.sign() * g.abs().sqrt())


def _cells(inputs: Tensor) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Yield for each size of patches the cells, how many lie between a patch's, and the places.

    Cells are [N, 8, h, w], positive; places are [h', w', 2], from -1 to 1, down and across.
    """
    edges = _edges(inputs)
    for spacing in _SPACINGS:
        kernel = 1 - torch.arange(1 - spacing, spacing, device=inputs.device).abs() / spacing
        if spacing <= _IN_ONE:
            both = (kernel[:, None] * kernel).expand(_DIRECTIONS, 1, -1, -1)
            cells = conv2d(edges, both, None, _STRIDE, spacing - 1, groups=_DIRECTIONS)
        else:
            down = kernel[:, None].expand(_DIRECTIONS, 1, -1, -1)
            cells = conv2d(edges, down, None, (_STRIDE, 1), (spacing - 1, 0), groups=_DIRECTIONS)
            across = kernel.expand(_DIRECTIONS, 1, 1, -1)
            cells = conv2d(cells, across, None, (1, _STRIDE), (0, spacing - 1), groups=_DIRECTIONS)
        apart = spacing // _STRIDE
        axes = []
        for cell_count, size in zip(cells.shape[2:], inputs.shape[2:], strict=True):
            n = cell_count - apart * (_SIDE - 1)
            places = torch.arange(n, device=inputs.device) * 2 - (n - 1)
            axes.append(places * (_STRIDE / size))
        yield cells + 1e-12, apart, torch.stack(torch.meshgrid(*axes, indexing="ij"), 2)


def _edges(inputs: Tensor) -> Tensor:
    """Return how strong the edges of images are in each of eight directions, [N, 8, H, W]."""
    grey = inputs.float().mean(1, keepdim=True)
    binomial = grey.new_tensor([1.0, 2.0, 1.0]) / 4
    grey = conv2d(pad(grey, (1, 1, 1, 1), "replicate"), (binomial[:, None] * binomial)[None, None])
    angles = torch.arange(_DIRECTIONS, device=inputs.device) * (2 * math.pi / _DIRECTIONS)
    difference = grey.new_zeros(_DIRECTIONS, 1, 3, 3)
    difference[:, 0, 1, 2], difference[:, 0, 1, 0] = angles.cos(), -angles.cos()
    difference[:, 0, 2, 1], difference[:, 0, 0, 1] = angles.sin(), -angles.sin()
    along = conv2d(pad(grey, (1, 1, 1, 1), "replicate"), difference)
    dx, dy = along[:, 0:1], along[:, 2:3]  # at 0 and 90 degrees
    # The cosine cubed: an edge counts little for directions 45 degrees off.
    return along.clamp_min(0) ** 3 / (dx.square() + dy.square() + 1e-12)
