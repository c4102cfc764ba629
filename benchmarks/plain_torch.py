"""The semi-hard triplet loss in plain torch: the best way that was found, and a well-known one."""

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.cases import MARGIN

Function = Callable[[Tensor, Tensor], Tensor]
"""``(embeddings [N, D], labels [N])`` to a scalar loss."""

Choose = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""``(d [N, N], same class [N, N], positives [N, P], class size [N])`` to negatives ``[N, P]``."""


def squared_distances(x: Tensor) -> Tensor:
    """The Gram identity, plain torch's fastest way to distances: one ``[N, N]`` and no more."""
    norms = x.square().sum(1)
    return torch.addmm(norms[None, :], x, x.T, alpha=-2).add_(norms[:, None]).relu_()


def _positives(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The other members of each row's class ``[N, P]``, which exist ``[N, P]``, class size ``[N]``.

    P is the largest class size less one; smaller classes are padded.
    """
    _, code, counts = torch.unique(labels, return_inverse=True, return_counts=True)
    start = (counts.cumsum(0) - counts)[code]
    size = counts[code]
    order = code.argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=labels.device) - start[order]
    column = torch.arange(int(counts.max()) - 1, device=labels.device).expand(len(order), -1)
    exists = column < size[:, None] - 1
    column = start[:, None] + column + (column >= rank[:, None])
    return order[column.clamp(max=len(order) - 1)], exists, size


def all_triplets(x: Tensor, labels: Tensor) -> Tensor:
    """The mean of the non-zero hinges of all triplets, as ``[N, P, N]`` of them."""
    p, exists, _ = _positives(labels)
    d = squared_distances(x)
    gap = d[:, None, :] - d.gather(1, p)[:, :, None]
    counts = exists[:, :, None] & (labels[:, None] != labels)[:, None, :]
    hinges = (MARGIN - gap).relu() * counts
    return hinges.sum() / (hinges > 0).sum().clamp(min=1)


def _by_sort(d: Tensor, same: Tensor, p: Tensor, size: Tensor) -> Tensor:
    """Semi-hard negatives ``[N, P]``: in each row's sorted negatives, the first beyond d(a, p)."""
    d_ap = d.gather(1, p)
    negatives, index = d.masked_fill(same, torch.inf).sort(1)
    at = torch.searchsorted(negatives, d_ap, right=True)
    farthest = len(d) - size[:, None] - 1
    return index.gather(1, torch.minimum(at, farthest))


def _by_minimum(d: Tensor, same: Tensor, p: Tensor, size: Tensor) -> Tensor:
    """Semi-hard negatives ``[N, P]``: the least of each row's distances beyond d(a, p), negatives
    only. Compiled, the ``[N, P, N]`` comparison is never stored."""
    d_ap = d.gather(1, p)[:, :, None]
    negatives = d.masked_fill(same, torch.inf)[:, None, :]
    least, index = torch.where(negatives > d_ap, negatives, torch.inf).min(2)
    farthest = d.masked_fill(same, -1.0).argmax(1, keepdim=True)
    return torch.where(least < torch.inf, index, farthest)


def _loss_given(choose: Choose) -> Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]:
    def loss(x: Tensor, labels: Tensor, p: Tensor, exists: Tensor, size: Tensor) -> Tensor:
        # With few pairs the backward is faster through the rows of what was chosen than through
        # the whole matrix, and the matrix need not be kept; they break even near N = 128 per class.
        through_rows = len(x) > 128 * (p.shape[1] + 1)
        with torch.set_grad_enabled(not through_rows):
            d = squared_distances(x)
        with torch.no_grad():
            n = choose(d, labels[:, None] == labels[None, :], p, size)
        if through_rows:
            a = torch.arange(len(x), device=x.device).repeat_interleave(p.shape[1])
            rows, positive, negative = (x.index_select(0, i) for i in (a, p.ravel(), n.ravel()))
            d_ap = (rows - positive).square().sum(1).view_as(p)
            d_an = (rows - negative).square().sum(1).view_as(p)
        else:
            d_ap, d_an = d.gather(1, torch.cat((p, n), 1)).split(p.shape[1], 1)
        return (torch.relu(d_ap - d_an + MARGIN) * exists).sum() / exists.sum()

    return loss


def sort() -> Function:
    loss = _loss_given(_by_sort)
    return lambda x, labels: loss(x, labels, *_positives(labels))


def _compiled(choose: Choose) -> Function:
    torch.compiler.reset()  # each shape its own code; without this the eighth shape runs uncompiled
    loss = torch.compile(_loss_given(choose), dynamic=False)
    return lambda x, labels: loss(x, labels, *_positives(labels))


def compiled_sort() -> Function:
    return _compiled(_by_sort)


def compiled_minimum() -> Function:
    return _compiled(_by_minimum)


def tensorflow_addons() -> Function:
    """TensorFlow-Addons' ``triplet_semihard_loss``, line by line in torch."""

    def masked_maximum(data: Tensor, mask: Tensor) -> Tensor:
        least = data.amin(1, keepdim=True)
        return ((data - least) * mask).amax(1, keepdim=True) + least

    def masked_minimum(data: Tensor, mask: Tensor) -> Tensor:
        greatest = data.amax(1, keepdim=True)
        return ((data - greatest) * mask).amin(1, keepdim=True) + greatest

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        n = len(x)
        d = squared_distances(x)
        same = labels[:, None] == labels[None, :]
        tiled = d.repeat(n, 1)
        mask = (~same).repeat(n, 1) & (tiled > d.T.reshape(-1, 1))
        has_outside = mask.any(1).view(n, n).T
        outside = masked_minimum(tiled, mask).view(n, n).T
        inside = masked_maximum(d, ~same).expand(n, n)
        h = d - torch.where(has_outside, outside, inside) + MARGIN
        positives = same.float() - torch.eye(n, device=labels.device)
        return torch.relu(h * positives).sum() / positives.sum()

    return loss
