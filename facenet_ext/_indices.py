"""pytorch-metric-learning's index tuples as triplets."""

from collections.abc import Sequence

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext._types import Triplets


def as_triplets(indices_tuple: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """(anchor, positive, negative) from such a tuple, a :class:`Triplets`, or pairs.

    Pairs (a1, p, a2, n) become every (a1, p) with every (a2, n) of the same anchor, in the order
    of the positive pairs and, for each of them, of the negative pairs. Memory is linear in the
    result: no table of positive by negative pairs is made.

    Raises:
        ValueError: another number of tensors, or pairs whose two tensors differ in length.
        TypeError: not a tuple or list, or pairs that are not integers.
    """
    if not isinstance(indices_tuple, (tuple, list)):
        raise TypeError(
            "indices_tuple: expected (anchor, positive, negative) or pairs (a1, p, a2, n), "
            f"got {type(indices_tuple).__name__}"
        )
    if len(indices_tuple) == 3 or isinstance(indices_tuple, Triplets):
        return indices_tuple[0], indices_tuple[1], indices_tuple[2]
    if len(indices_tuple) != 4:
        raise ValueError(
            "indices_tuple: expected (anchor, positive, negative) or pairs (a1, p, a2, n), "
            f"got {len(indices_tuple)} entries"
        )
    a1, p, a2, n = (
        check.check_integer_vector(f"indices_tuple[{i}]", index).to(indices_tuple[0].device)
        for i, index in enumerate(indices_tuple)
    )
    for i, first, second in ((1, a1, p), (3, a2, n)):
        if first.shape != second.shape:
            raise ValueError(
                f"indices_tuple[{i}]: expected {first.shape[0]} entries as indices_tuple[{i - 1}] "
                f"has, got {second.shape[0]}"
            )
    # The negatives of an anchor as one run, [first, last), of the pairs sorted by anchor.
    a2, order = a2.sort(stable=True)
    first = torch.searchsorted(a2, a1)
    count = torch.searchsorted(a2, a1, right=True) - first
    # Triplets come run by run: triplet t is of positive pair k[t], and its place in the run follows
    # from where the run of its pair starts.
    k = torch.repeat_interleave(count)
    within = torch.arange(k.shape[0], device=k.device) - (count.cumsum(0) - count)[k]
    return a1[k], p[k], n[order[first[k] + within]]
