"""Distances, triplet selection and triplet losses as functions.

Notation: ``M`` anchors, ``N`` candidates, ``D`` dimensions, ``T`` triplets. Without ``ref_emb``
the candidates are the anchors themselves (self mode), and an item is never its own positive. With
``ref_emb`` they are a bank of other rows (bank mode).
"""

import torch
from torch import Tensor

from facenet_ext import _validation as check
from facenet_ext import ops
from facenet_ext._rule import TripletRule
from facenet_ext._selection import given_loss, margin_loss, mined_loss, select
from facenet_ext._softmax import ntxent_loss, supcon_loss
from facenet_ext._types import TripletCounts, Triplets

__all__ = [
    "TripletCounts",
    "TripletRule",
    "Triplets",
    "mined_triplet_loss",
    "ntxent_loss",
    "pairwise_squared_distance",
    "select_triplets",
    "supcon_loss",
    "triplet_loss",
    "triplet_margin_loss",
]


def pairwise_squared_distance(x: Tensor, y: Tensor | None = None) -> Tensor:
    r"""Squared Euclidean distances between all rows of two matrices.

    .. math:: d(i, j) = \lVert x_i - y_j \rVert^2

    Computed from differences, not from the Gram matrix: equal rows are at exactly 0 and a common
    offset costs no digits. Differentiable twice, in reverse mode.

    Args:
        x: ``[M, D]``, float32, float64, float16 or bfloat16.
        y: ``[N, D]``; ``x`` itself if None, at half the arithmetic.

    Returns:
        ``[M, N]`` float32, or float64 for float64.

    Raises:
        ValueError: a matrix is not 2-D, or the numbers of columns differ.
        TypeError: a matrix is not floating point.

    Example:
        >>> pairwise_squared_distance(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
        tensor([[ 0., 25.],
                [25.,  0.]])

    Source: FaceNet (Schroff et al., CVPR 2015), section 3: squared distance is face similarity.
    """
    check.check_embeddings("x", x)
    if y is not None:
        x, y = check.check_pair("x", x, "y", y)
    return ops.pairwise_squared_distance(x, y)


def select_triplets(
    embeddings: Tensor,
    labels: Tensor,
    *,
    positives: str = "all",
    negatives: str = "semihard",
    margin: float = 0.2,
    within_margin: bool = False,
    fallback: str = "farthest",
    distance: str = "sqeuclidean",
    cutoff: float = 0.5,
    nonzero_loss_cutoff: float = 1.4,
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Triplets:
    r"""Triplets (anchor, positive, negative) chosen by a rule, without an N x N matrix.

    The semi-hard negative of anchor a and positive p is the closest one beyond p:

    .. math:: n = \arg\min_{n \in N(a),\ d(a, n) > d(a, p)} d(a, n)

    Ties go to the lowest index. An anchor without a positive or without a negative gives none.

    Distance-weighted negatives are drawn with weights that undo how often a Euclidean distance d
    occurs between random points on a sphere, w(d) = 1 / q(d):

    .. math:: \log q(d) = (D - 2) \log d + \frac{D - 3}{2} \log\left(1 - \frac{d^2}{4}\right)

    The weights are meant for rows of norm 1. d is the Euclidean distance, whatever ``distance``
    is: of the normalised rows for ``"cosine"``, else of the rows as they are.

    Args:
        embeddings: ``[M, D]`` anchors.
        labels: ``[M]`` integers of any type.
        positives: ``"all"`` of an anchor, or only its ``"hardest"`` (farthest) or ``"easiest"``.
        negatives: ``"semihard"``; ``"hardest"`` (the closest of all); or one of the random rules of
            :class:`TripletRule`.
        margin: what ``within_margin`` and the random rules compare with.
        within_margin: ask semi-hard negatives to satisfy d(a, n) < d(a, p) + margin.
        fallback: ``"farthest"`` or ``"drop"`` where no negative qualifies, see
            :class:`TripletRule`.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"`` (1 - cos).
        cutoff: of distance-weighted negatives, see :class:`TripletRule`.
        nonzero_loss_cutoff: of distance-weighted negatives, see :class:`TripletRule`.
        ref_emb: ``[N, D]`` candidates other than the anchors, with ``ref_labels``.
        ref_labels: ``[N]``
        anchor_ids: ``[M]`` integers. A candidate with the id of an anchor is not a positive of
            this anchor: it is a copy of the same item, in a bank of past embeddings for example.
        ref_ids: ``[N]``
        generator: random rules draw one number per call from it; by default from the generator of
            the embeddings' device (``torch.manual_seed``). The negatives depend on this number and
            on the row numbers of anchor, positive and negative, so not on the number of threads.
            Other rules leave the generator as it is.

    Returns:
        A :class:`Triplets` in lexicographic order of (anchor, positive). No gradient.

    Warns:
        UserWarning: the labels allow no triplet, see :func:`mined_triplet_loss`.

    Raises:
        ValueError: shapes that do not fit, an unknown option, a margin that is not finite.
        TypeError: embeddings that are not floating point, labels that are not integers, a generator
            that is no ``torch.Generator``.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [-1.0], [1.5]])
        >>> triplets = select_triplets(embeddings, torch.tensor([0, 0, 1, 1]))
        >>> torch.stack(triplets[:3], dim=1).tolist()
        [[0, 1, 3], [1, 0, 2], [2, 3, 1], [3, 2, 0]]

    Source: FaceNet, section 3.2 (all anchor-positive pairs, semi-hard negatives); Hermans et al.
    2017, section 2 (hardest positive and negative); Wu et al., "Sampling Matters in Deep Embedding
    Learning", ICCV 2017, section 4 (distance-weighted negatives).
    """
    batch = check.Batch(embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
    rule = TripletRule(
        margin, positives, negatives, within_margin, fallback, distance, cutoff, nonzero_loss_cutoff
    )
    return select(batch, rule, generator)


def triplet_loss(
    embeddings: Tensor,
    triplets: Triplets | tuple[Tensor, Tensor, Tensor],
    margin: float = 0.2,
    *,
    distance: str = "sqeuclidean",
    smooth: bool = False,
    swap: bool = False,
    reduction: str = "mean",
    ref_emb: Tensor | None = None,
) -> Tensor:
    r"""The triplet loss of given triplets.

    .. math:: h = \max(0,\ d(a, p) - d(a, n) + \text{margin})

    Args:
        embeddings: ``[M, D]`` anchors, and candidates too without ``ref_emb``.
        triplets: a :class:`Triplets`, or three integer tensors ``[T]``: anchor, positive, negative.
        margin: the margin, in units of the distance.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        smooth: softplus in place of the hinge.
        swap: count the negative at the smaller of d(a, n) and d(p, n) (anchor swap), as
            ``torch.nn.TripletMarginLoss`` does. The gradient goes to the smaller, half to each
            at a tie.
        reduction: ``"mean"``, ``"mean_nonzero"`` (over h > 0), ``"sum"`` or ``"none"``.
        ref_emb: ``[N, D]`` candidates, of which positive and negative are rows; if None,
            ``embeddings``.

    Returns:
        A scalar, or ``[T]`` for ``"none"``; float32, or float64 for float64. 0 without triplets;
        with them, NaN where any embedding is not finite. Differentiable once.

    Raises:
        ValueError: shapes that do not fit, an index out of range, an unknown option, a margin that
            is not finite.
        TypeError: embeddings that are not floating point, indices that are not integers.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [-1.0], [1.5]])
        >>> index = torch.tensor([0]), torch.tensor([1]), torch.tensor([3])
        >>> triplet_loss(embeddings, index, margin=2.0)
        tensor(0.7500)

    Source: FaceNet, section 3.1, equation 2; Balntas et al., "Learning shallow convolutional
    feature descriptors with triplet losses", BMVC 2016, "In-triplet hard negative mining with
    anchor swap".
    """
    return given_loss(embeddings, triplets, margin, distance, smooth, swap, reduction, ref_emb)


def mined_triplet_loss(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    *,
    positives: str = "all",
    negatives: str = "semihard",
    within_margin: bool = False,
    fallback: str = "farthest",
    distance: str = "sqeuclidean",
    cutoff: float = 0.5,
    nonzero_loss_cutoff: float = 1.4,
    smooth: bool = False,
    swap: bool = False,
    reduction: str = "mean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
    max_per_class: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Selects triplets and returns their loss, fused: the path for training.

    The same as :func:`select_triplets` followed by :func:`triplet_loss`, in one pass over tiles
    of distances that also makes the gradient. Memory is O(M D + pairs), never M x N.

    Args:
        embeddings: ``[M, D]`` anchors.
        labels: ``[M]`` integers of any type.
        margin: the margin, in units of the distance.
        positives: see :func:`select_triplets`.
        negatives: see :func:`select_triplets`.
        within_margin: see :func:`select_triplets`.
        fallback: see :func:`select_triplets`.
        distance: see :func:`select_triplets`.
        cutoff: see :func:`select_triplets`.
        nonzero_loss_cutoff: see :func:`select_triplets`.
        smooth: softplus in place of the hinge.
        swap: see :func:`triplet_loss`. Selection ignores it. With it selection and loss are two
            passes, not one: they take O(T) more memory and wait for the device, whatever
            ``max_per_class``.
        reduction: ``"mean"``, ``"mean_nonzero"``, ``"sum"`` or ``"none"`` (which is not fused).
        ref_emb: see :func:`select_triplets`. It gets a gradient too if it requires one.
        ref_labels: see :func:`select_triplets`.
        anchor_ids: see :func:`select_triplets`.
        ref_ids: see :func:`select_triplets`.
        max_per_class: no label has more candidates than this. A sampler that draws this many rows
            of a class makes sure of it. The call then never waits for a CUDA device, and a CUDA
            graph can capture it. If a label has more, a CPU raises RuntimeError and a GPU returns
            NaN. Ignored where nothing is fused: with ``swap``, and for the reduction ``"none"``.
        generator: see :func:`select_triplets`.

    Returns:
        A scalar, or ``[T]`` for ``"none"``. 0 without triplets, NaN where any embedding is not
        finite. Differentiable once.

    Warns:
        UserWarning: labels on the CPU allow no triplet, as they all differ or are all the same; or
            the margin is negative. A process gives each of these warnings once.

    Raises:
        ValueError: shapes that do not fit, an unknown option, a margin that is not finite.
        TypeError: embeddings that are not floating point, labels that are not integers, a generator
            that is no ``torch.Generator``.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [-1.0], [1.5]], requires_grad=True)
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> mined_triplet_loss(embeddings, labels, margin=0.5, distance="euclidean").item()
        0.625

    Source: FaceNet, sections 3.1 and 3.2.
    """
    batch = check.Batch(embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
    rule = TripletRule(
        margin, positives, negatives, within_margin, fallback, distance, cutoff, nonzero_loss_cutoff
    )
    return mined_loss(batch, rule, smooth, swap, reduction, max_per_class, generator)


def triplet_margin_loss(
    embeddings: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    *,
    triplets: str = "all",
    distance: str = "sqeuclidean",
    smooth: bool = False,
    reduction: str = "mean_nonzero",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
    max_per_class: int | None = None,
) -> Tensor:
    r"""The triplet loss over *every* triplet of a kind, without a list of triplets.

    .. math:: L = \frac{1}{Z} \sum_{a,\ p \in P(a),\ n \in N(a)}
        [g \in \text{kind}]\ \max(0,\ \text{margin} - g), \qquad g = d(a, n) - d(a, p)

    | ``triplets`` | gap g | which triplets |
    |---|---|---|
    | "all" | any | all |
    | "hard" | g <= 0 | the negative is no farther than the positive |
    | "semihard" | 0 < g <= margin | it is farther, but inside the margin |
    | "easy" | g > margin | it is beyond the margin: the hinge is 0, softplus is not |

    With the P positive distances of an anchor sorted, a negative meets a contiguous range of
    them, which a binary search finds: O(M N log P) time and O(M D + M P) memory for M N P
    triplets. With ``smooth`` there is no closed form over a range: the P x N softplus terms of
    each anchor are computed, exactly, in O(M N P) time.

    Args:
        embeddings: ``[M, D]`` anchors.
        labels: ``[M]`` integers of any type.
        margin: the margin, in units of the distance.
        triplets: the kind, as above.
        distance: ``"sqeuclidean"``, ``"euclidean"`` or ``"cosine"``.
        smooth: softplus in place of the hinge.
        reduction: says what Z is. ``"mean_nonzero"``: the number of triplets with a positive hinge;
            ``"mean"``: the number of all triplets of the kind; ``"sum"``: 1.
        ref_emb: ``[N, D]`` candidates other than the anchors, with ``ref_labels``.
        ref_labels: ``[N]``
        anchor_ids: ``[M]``, see :func:`select_triplets`.
        ref_ids: ``[N]``
        max_per_class: see :func:`mined_triplet_loss`.

    Returns:
        A scalar; 0 without triplets, NaN where any embedding is not finite. Differentiable once.

    Warns:
        UserWarning: see :func:`mined_triplet_loss`.

    Raises:
        ValueError: shapes that do not fit, an unknown option, a margin that is not finite.
        TypeError: embeddings that are not floating point, labels that are not integers.

    Example:
        >>> embeddings = torch.tensor([[0.0], [1.0], [-1.0], [1.5]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> triplet_margin_loss(embeddings, labels, margin=0.5, distance="euclidean")
        tensor(1.4167)
        >>> triplet_margin_loss(embeddings, labels, margin=0.5, triplets="semihard")
        tensor(0.)

    Source: FaceNet, section 3.1, equation 2, over all of the batch's triplets; the kinds are those
    of its section 3.2 and of Hermans et al. 2017, section 2 ("batch all").
    """
    batch = check.Batch(embeddings, labels, ref_emb, ref_labels, anchor_ids, ref_ids)
    return margin_loss(batch, margin, triplets, distance, smooth, reduction, max_per_class)
