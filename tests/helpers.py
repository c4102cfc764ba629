"""Data for the tests, and the comparisons that need more than one line."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from tolerances import SEARCH, assert_gradient_close, assert_loss_close, eps
from torch import Tensor

from facenet_ext import _rule, reference
from facenet_ext._types import Triplets

SetThreads = Callable[[int], None]
Make = TypeVar("Make", bound=Callable[..., Any])

POSITIVES = _rule.POSITIVES
NEGATIVES = _rule.DETERMINISTIC
RANDOM = _rule.RANDOM
FALLBACKS = _rule.FALLBACKS
DISTANCES = _rule.DISTANCES
UNIFORM = tuple(rule for rule in RANDOM if rule != "distance_weighted")
REDUCTIONS = ("mean", "mean_nonzero", "sum", "none")
KINDS = ("all", "hard", "semihard", "easy")  # of triplet_margin_loss

# The kernels' tiles have 48 rows on a CPU, 64 or 128 on a GPU: these are below, on and above.
ROWS = (0, 1, 2, 3, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129, 200)
COLUMNS = (1, 3, 127, 128, 129, 513)


def on_cuda_kernels() -> bool:
    """Whether operators are the CUDA kernels: on a GPU, or emulated (tests/emulation)."""
    on_gpu = torch.get_default_device().type == "cuda"
    return on_gpu or "FACENET_EMULATED_LIBRARY" in os.environ


def made_on_cpu(make: Make) -> Make:
    """`make`, whose tensors come from the CPU's generators, then move to the default device.

    So the data of a test is the same on every device.
    """

    @functools.wraps(make)
    def made(*args: Any, **kwargs: Any) -> Any:
        device = torch.get_default_device()
        with torch.device("cpu"):
            result = make(*args, **kwargs)
        if isinstance(result, Tensor):
            return result.to(device)
        return tuple(tensor.to(device) for tensor in result)

    return made  # type: ignore[return-value]


@made_on_cpu
def random_like(tensor: Tensor, draw: Callable[..., Tensor], seed: int = 0) -> Tensor:
    """What `draw` (torch.rand, torch.randn) gives, of the shape and dtype of `tensor`."""
    generator = torch.Generator().manual_seed(seed)
    return draw(tensor.shape, generator=generator, dtype=tensor.dtype)


@made_on_cpu
def make_labels(layout: str, n: int, seed: int = 0) -> Tensor:
    """`n` shuffled int64 labels.

    "one_class"; "all_different"; "pairs", "quads": classes of 2 or 4; "halves": two classes, so
    that n=240 gives 119 positives per anchor; "uneven": classes of 1 to 70 rows, in turn.
    """
    sizes = {
        "one_class": [n],
        "all_different": [1],
        "pairs": [2],
        "quads": [4],
        "halves": [max((n + 1) // 2, 1)],
        "uneven": [1, 2, 70, 3, 1, 17, 8, 33],
    }[layout]
    labels: list[int] = []
    while len(labels) < n:
        label = len(set(labels))
        labels += [label] * sizes[label % len(sizes)]
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    return torch.tensor(labels[:n], dtype=torch.int64)[order]


@made_on_cpu
def make_cloud(
    kind: str, n: int, dim: int, dtype: torch.dtype = torch.float32, seed: int = 0
) -> Tensor:
    """`n` rows in `dim` dimensions.

    "gaussian": rows of norm about 1; "integers": small integers, whose distances are exact in
    float32 and often equal; "duplicates": gaussian rows, each there several times; "offset":
    gaussian around (1000, ..., 1000) ("far": 10000; "steps": there too, so wide that half
    precision tells rows apart); "collapsed": spread 1e-4 around one point ("tiny": around the
    origin, where half precision tells rows apart); "zeros": all rows equal; "axes": signed unit
    vectors times powers of two, and zero rows, so that cosine distances are exactly 0, 1 or 2.
    """
    generator = torch.Generator().manual_seed(1000 * n + dim + seed)
    x = torch.randn(n, dim, generator=generator, dtype=torch.float64) / dim**0.5
    if kind == "integers":
        x = torch.randint(-2, 3, (n, dim), generator=generator).double()
    elif kind == "duplicates":
        x = x[torch.randint(0, max(n // 3, 1), (n,), generator=generator)]
    elif kind == "offset":
        x = x + 1e3
    elif kind == "far":
        x = x + 1e4
    elif kind == "steps":
        x = 9984 + 64.0 * torch.randint(-8, 9, (n, dim), generator=generator).double()
    elif kind == "collapsed":
        x = 0.5 + 1e-4 * x
    elif kind == "tiny":
        x = 1e-4 * x
    elif kind == "zeros":
        x = torch.zeros_like(x)
    elif kind == "axes":
        axis = torch.randint(0, min(dim, 4), (n,), generator=generator)
        length = 2.0 ** torch.randint(-2, 3, (n,), generator=generator)
        sign = torch.randint(-1, 2, (n,), generator=generator)
        x = torch.zeros_like(x).scatter_(
            1, axis.unsqueeze(1), (length * sign).double().unsqueeze(1)
        )
    else:
        assert kind == "gaussian", kind
    return x.to(dtype)


def make_batch(
    layout: str,
    n: int,
    dim: int,
    dtype: torch.dtype = torch.float32,
    cloud: str = "gaussian",
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Embeddings and labels, as :func:`make_cloud` and :func:`make_labels`."""
    return make_cloud(cloud, n, dim, dtype, seed), make_labels(layout, n, seed)


def make_batches(
    *sizes: int, dim: int, dtype: torch.dtype = torch.float64, classes: int = 6
) -> list[tuple[Tensor, Tensor]]:
    """Batches of these sizes, of few classes, so that most rows have positives."""
    return [
        (make_cloud("gaussian", n, dim, dtype, seed), make_labels("uneven", n, seed) % classes)
        for seed, n in enumerate(sizes)
    ]


def loss_and_gradient(loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """`loss(x)` and its gradient; for a vector of losses, the gradient of a weighted sum."""
    x = x.detach().clone().requires_grad_()
    value = loss(x)
    weight = random_like(value.detach(), torch.rand) + 0.5
    (gradient,) = torch.autograd.grad(value, x, weight)
    return value.detach(), gradient


def assert_same_state(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Two ``state_dict``s, bit for bit."""
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype, name
        assert torch.equal(actual[name], tensor), name


@made_on_cpu
def ids_of(n: int, seed: int = 0) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed)) + 1000


def bank(
    m: int, n: int, dim: int, cloud: str, layout: str, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Anchors and a bank of candidates; the first few candidates are copies of anchors."""
    x, y = make_batch(layout, m, dim, dtype, cloud)
    c, z = make_batch(layout, n, dim, dtype, cloud, seed=1)
    copies = min(m, n) // 3
    c, z = torch.cat([x[:copies], c[copies:]]), torch.cat([y[:copies], z[copies:]])
    ids = ids_of(m + n)
    ref_ids = torch.cat([ids[:copies], ids[m : m + n - copies]])
    return x, y, {"ref_emb": c, "ref_labels": z, "anchor_ids": ids[:m], "ref_ids": ref_ids}


def without_ids(candidates: dict[str, Tensor]) -> dict[str, Tensor]:
    """The candidates of :func:`bank` without ids."""
    return {key: candidates[key] for key in ("ref_emb", "ref_labels")}


def unit_batch(
    layout: str, n: int, dim: int, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Gaussian rows of norm 1."""
    x, y = make_batch(layout, n, dim, torch.float64)
    return torch.nn.functional.normalize(x, dim=1).to(dtype), y


def seeded(seed: int = 0) -> torch.Generator:
    """A generator of the CPU, which serves every device."""
    return torch.Generator().manual_seed(seed)


def with_seed(seed: int, x: Tensor, y: Tensor, negatives: str, margin: float = 0.2) -> Triplets:
    """Triplets of this seed, which otherwise a generator draws."""
    rule = ("all", negatives, margin, False, "drop", "sqeuclidean", 0.5, 1.4)
    nothing = (None,) * 4
    return Triplets(
        *torch.ops.facenet_ext.select_triplets(x, y, *nothing, torch.tensor(seed), *rule)
    )


def assert_same_triplets(actual: Any, expected: Any) -> None:
    """The same (anchor, positive, negative) in the same order."""
    for name, a, e in zip(
        ("anchor", "positive", "negative"), actual[:3], expected[:3], strict=True
    ):
        assert a.dtype == torch.int64, name
        assert a.tolist() == e.tolist(), name


def pair_masks(
    labels: Tensor,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Which pairs are positive and which are negative, [M, N] each."""
    same = labels.unsqueeze(1) == (labels if ref_labels is None else ref_labels)
    positive = same.clone()
    if ref_labels is None:
        positive.fill_diagonal_(False)
    if anchor_ids is not None and ref_ids is not None:
        positive &= anchor_ids.unsqueeze(1) != ref_ids
    return positive, ~same


def search_tolerance(x: Tensor, c: Tensor, distance: str, d: Tensor) -> Tensor:
    """The error that the search may make in each distance, [M, N]: see tolerances.SEARCH."""
    unit = SEARCH * eps(x.dtype)
    if distance == "cosine":
        return torch.full_like(d, unit)
    x, c = x.double(), c.double()
    if len(c):
        x, c = x - c.mean(0), c - c.mean(0)
    squared = unit * (x.square().sum(1).unsqueeze(1) + c.square().sum(1))
    if distance == "sqeuclidean":
        return squared
    return d - (d.square() - squared).clamp(min=0).sqrt()


def assert_valid_selection(
    triplets: Any,
    embeddings: Tensor,
    labels: Tensor,
    *,
    positives: str = "all",
    negatives: str = "semihard",
    margin: float = 0.2,
    within_margin: bool = False,
    fallback: str = "farthest",
    distance: str = "sqeuclidean",
    ref_emb: Tensor | None = None,
    ref_labels: Tensor | None = None,
    anchor_ids: Tensor | None = None,
    ref_ids: Tensor | None = None,
) -> None:
    """The triplets are what the rules ask for, up to the rounding that the search may make.

    Each comparison of two distances that decides something may go either way when the two are
    closer than the search's error. Everything else is as the rules say: a negative that clearly
    qualifies and is clearly closer than the selected one is a failure.
    """
    candidates = embeddings if ref_emb is None else ref_emb
    d = reference.pairwise_distance(embeddings, candidates, distance)
    tol = search_tolerance(embeddings, candidates, distance, d)
    is_positive, is_negative = pair_masks(labels, ref_labels, anchor_ids, ref_ids)
    usable = is_positive & is_negative.any(1, keepdim=True)
    a, p, n = triplets[:3]
    assert all(index.dtype == torch.int64 for index in (a, p, n))
    assert usable[a, p].all(), "a pair that is not positive, or whose anchor has no negative"
    assert is_negative[a, n].all(), "a negative of the anchor's class"
    order = a * len(candidates) + p
    assert (order[1:] > order[:-1]).all(), "not in lexicographic order of (anchor, positive)"

    def clear_negatives(anchor: Tensor, positive: Tensor) -> Tensor:
        """[T, N]: the negatives that qualify whatever the rounding."""
        clear = is_negative[anchor]
        if negatives == "semihard":
            low = (d + tol)[anchor, positive].unsqueeze(1)
            clear = clear & ((d - tol)[anchor] > low)
            if within_margin:
                high = (d - tol)[anchor, positive].unsqueeze(1) + margin
                clear = clear & ((d + tol)[anchor] < high)
        return clear

    # Which pairs are there: all usable ones, less those that may be dropped.
    if positives == "all":
        present = torch.zeros_like(usable)
        present[a, p] = True
        missing = (usable & ~present).nonzero()
    else:
        assert (a[1:] > a[:-1]).all(), "more than one positive for an anchor"
        sign = 1.0 if positives == "easiest" else -1.0
        cost = torch.where(usable, sign * d, torch.inf)
        best = _amin(torch.where(usable, sign * d + tol, torch.inf))
        assert (cost[a, p] - tol[a, p] <= best[a]).all(), f"not the {positives} positive"
        absent = usable.any(1)
        absent[a] = False
        rows = absent.nonzero().flatten()
        chosen = cost[rows].argmin(1) if len(rows) else rows
        missing = torch.stack([rows, chosen], 1)
    if fallback == "farthest" or negatives == "hardest":
        assert len(missing) == 0, f"pairs left out: {missing[:5].tolist()}"
    dropped = clear_negatives(missing[:, 0], missing[:, 1])
    assert not dropped.any(), f"dropped, though it has a negative: {missing[dropped.any(1)][:5]}"

    # Which negative: the nearest that qualifies, or the farthest when none clearly does.
    clear = clear_negatives(a, p)
    nearest = torch.where(clear, (d + tol)[a], torch.inf)
    optimal = (d - tol)[a, n] <= _amin(nearest)
    fell_back = torch.zeros_like(optimal)
    if negatives == "semihard":
        optimal &= (d + tol)[a, n] > (d - tol)[a, p]
        if within_margin:
            optimal &= (d - tol)[a, n] < (d + tol)[a, p] + margin
        if fallback == "farthest":
            farthest = -_amin(torch.where(is_negative, tol - d, torch.inf))[a]
            fell_back = ~clear.any(1) & ((d + tol)[a, n] >= farthest)
    wrong = ~(optimal | fell_back)
    assert not wrong.any(), _explain(wrong, d, a, p, n)
    if negatives == "semihard":
        not_beyond = ~(triplets.d_an > triplets.d_ap) & ~fell_back
        assert not not_beyond.any(), "not strictly beyond: " + _explain(not_beyond, d, a, p, n)


def _amin(d: Tensor) -> Tensor:
    """The smallest of each row, infinity without columns."""
    return d.amin(1) if d.shape[1] else d.new_full((len(d),), torch.inf)


def _explain(wrong: Tensor, d: Tensor, a: Tensor, p: Tensor, n: Tensor) -> str:
    t = int(wrong.nonzero()[0])
    i, j, k = int(a[t]), int(p[t]), int(n[t])
    return (
        f"{int(wrong.sum())} of {len(wrong)} negatives are wrong; the first: anchor {i}, "
        f"positive {j} at {d[i, j]}, selected {k} at {d[i, k]}"
    )


def assert_loss_and_gradients(
    loss: Callable[..., Tensor],
    triplets: Any,
    margin: float,
    embeddings: Tensor,
    ref_emb: Tensor | None = None,
    **options: Any,
) -> None:
    """`loss(embeddings, ref_emb)` is the oracle's loss of these triplets, and so is its gradient.

    A gradient is compared given the same triplets: a near tie may select another one.
    """
    given = [e.detach() for e in (embeddings, ref_emb) if e is not None]
    inputs = [e.clone().requires_grad_() for e in given]
    actual = loss(*inputs)
    exact = [e.double().clone().requires_grad_() for e in given]  # so that nothing gets rounded
    candidates = {"ref_emb": exact[1]} if len(exact) == 2 else {}
    expected = reference.triplet_loss(exact[0], triplets, margin, **candidates, **options)
    assert actual.shape == expected.shape

    d = reference.pairwise_distance(embeddings, ref_emb, options.get("distance", "sqeuclidean"))
    a, p, n = triplets[:3]
    scale = abs(margin) + float((d[a, p] + d[a, n]).max()) if len(a) else 0.0
    total = options.get("reduction") == "sum"
    assert_loss_close(actual, expected, embeddings.dtype, scale * (len(a) if total else 1))

    weight = random_like(actual, torch.rand, seed=len(a)) + 0.5
    gradients = torch.autograd.grad(actual, inputs, weight)
    oracles = torch.autograd.grad(expected, exact, weight.double())
    for gradient, oracle in zip(gradients, oracles, strict=True):
        assert_gradient_close(gradient, oracle, embeddings.dtype)


def assert_frequencies(counts: Tensor, weights: Tensor) -> None:
    """Rows of counts are drawn in proportion to rows of weights: Pearson's chi-square.

    Cells that expect fewer than five are put together. Seeds are fixed, so the result never varies.
    """
    counts, weights = (t.double().reshape(-1, counts.shape[-1]) for t in (counts, weights))
    expected = weights / weights.sum(1, keepdim=True) * counts.sum(1, keepdim=True)
    assert not counts[weights == 0].any(), "what has no weight was drawn"
    rare = expected < 5
    pooled = [torch.where(rare, t, 0.0).sum(1, keepdim=True) for t in (counts, expected)]
    seen = torch.cat([torch.where(rare, 0.0, counts), pooled[0]], 1)
    awaited = torch.cat([torch.where(rare, 0.0, expected), pooled[1]], 1)
    cells = awaited > 0
    statistic = float(((seen - awaited)[cells].square() / awaited[cells]).sum())
    freedom = int(cells.sum()) - len(counts)
    assert freedom > 0
    half = torch.tensor([freedom / 2, statistic / 2], dtype=torch.float64)
    p = float(torch.special.gammaincc(*half))
    assert 1e-3 < p < 1 - 1e-3, f"chi-square {statistic} for {freedom} degrees of freedom: {p}"
