"""The pictures show what the library does now: redrawn, they are those in docs/images."""

from __future__ import annotations

import io
import re

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.quiver import Quiver
from tolerances import assert_gradient_close
from torch import Tensor

from docs.pictures import PICTURES, gradients, scene, selections
from docs.pictures.__main__ import IMAGES, settings
from facenet_ext import _validation, reference, select_triplets
from facenet_ext._rule import DETERMINISTIC, POSITIVES, RANDOM

NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def drawn(figure: Figure, prefix: str) -> dict[str, Artist]:
    """What a picture has that is named `prefix`-..., by the rest of the name."""
    found = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(f"{prefix}-"))
    return {artist.get_gid().removeprefix(f"{prefix}-"): artist for artist in found}


def selected(**rule: str) -> dict[tuple[int, int], tuple[float, float]]:
    """Where the negative of each (positive, negative) lies that one call for the anchor selects."""
    triplets = select_triplets(
        scene.ANCHOR, torch.tensor([0]), margin=scene.MARGIN, distance=scene.DISTANCE,
        ref_emb=scene.CANDIDATES, ref_labels=scene.LABELS, **rule,
    )  # fmt: skip
    pairs = zip(triplets.positive.tolist(), triplets.negative.tolist(), strict=True)
    return {(p, n): tuple(scene.CANDIDATES[n, :2].tolist()) for p, n in pairs}


def place(mark: Artist) -> tuple[float, float]:
    assert isinstance(mark, Line2D)
    x, y = mark.get_data()
    return float(x[0]), float(y[0])


def gaps() -> tuple[Tensor, Tensor]:
    """d(a, n) of all points, and by how much each is farther than the middle positive."""
    d = reference.pairwise_distance(scene.ANCHOR, scene.CANDIDATES, scene.DISTANCE)[0]
    return d, d - d[scene.MIDDLE]


def negatives_where(condition: Tensor) -> list[int]:
    return (condition & (scene.LABELS != 0)).nonzero().flatten().tolist()


@pytest.mark.parametrize("rule", DETERMINISTIC)
def test_the_negative_marked_is_the_one_selected(rule: str) -> None:
    marked = drawn(selections.draw_negatives(), rule)
    expected = {str(n): at for (p, n), at in selected(negatives=rule).items() if p == scene.MIDDLE}
    assert {name: place(mark) for name, mark in marked.items()} == expected


@pytest.mark.parametrize("rule", RANDOM)
def test_the_negatives_marked_are_those_that_may_be_drawn(rule: str) -> None:
    d, gap = gaps()
    qualify = {
        "random_semihard": (gap > 0) & (gap < scene.MARGIN),
        "random_violating": gap < scene.MARGIN,
        "distance_weighted": d < selections.NONZERO_LOSS_CUTOFF,
    }[rule]
    marked = drawn(selections.draw_negatives(), rule)
    assert sorted(map(int, marked)) == negatives_where(qualify)
    shares = scene.shares(rule, selections.DRAWS)
    assert sorted(shares) == negatives_where(qualify)
    if rule != "distance_weighted":
        assert all(abs(share - 1 / len(shares)) < 0.02 for share in shares.values())


@pytest.mark.parametrize("rule", POSITIVES)
def test_the_pairs_marked_are_those_selected(rule: str) -> None:
    marked = drawn(selections.draw_positives(), rule)
    expected = {f"{p}-{n}": at for (p, n), at in selected(positives=rule).items()}
    assert {name: place(mark) for name, mark in marked.items()} == expected


@pytest.mark.parametrize("kind", _validation.TRIPLETS)
def test_the_negatives_of_a_kind_lie_in_its_region(kind: str) -> None:
    _, gap = gaps()
    of_kind = {
        "all": gap > -torch.inf,
        "hard": gap <= 0,
        "semihard": (gap > 0) & (gap <= scene.MARGIN),
        "easy": gap > scene.MARGIN,
    }[kind]
    marked = drawn(selections.draw_kinds(), kind)
    assert sorted(map(int, marked)) == negatives_where(of_kind)


@pytest.mark.parametrize("name", gradients.LOSSES)
def test_the_arrows_are_minus_the_oracles_gradient(name: str) -> None:
    loss, _ = gradients.LOSSES[name]
    options = {option: getattr(loss, option) for option in ("distance", "smooth", "reduction")}
    if hasattr(loss, "triplets"):
        oracle, options["triplets"] = reference.triplet_margin_loss, loss.triplets
    else:
        oracle = reference.mined_triplet_loss
        options |= {option: getattr(loss, option) for option in ("positives", "negatives")}
    batch = gradients.BATCH.clone().requires_grad_()
    oracle(batch, gradients.LABELS, loss.margin, **options).backward()
    assert batch.grad is not None
    longest = float(batch.grad.norm(dim=1).max())

    arrows = drawn(gradients.draw_gradients(), "step")[name]
    assert isinstance(arrows, Quiver)
    steps = torch.tensor(np.stack([arrows.U, arrows.V], axis=1)) * (longest / gradients.LONGEST)
    assert_gradient_close(steps, -batch.grad, torch.float64)


@pytest.mark.parametrize("name", PICTURES)
def test_the_committed_picture_is_the_one_drawn_now(name: str) -> None:
    committed = (IMAGES / f"{name}.svg").read_text()
    if f"Matplotlib v{matplotlib.__version__}," not in committed:
        pytest.skip("drawn by another version of Matplotlib")
    now = io.StringIO()
    with settings():
        PICTURES[name]().savefig(now, format="svg", metadata={"Date": None})
    texts = [NUMBER.sub("#", text) for text in (committed, now.getvalue())]
    assert texts[0] == texts[1], "run `make docs-pictures`, look at the pictures and commit them"
    numbers = [np.array(NUMBER.findall(text), float) for text in (committed, now.getvalue())]
    np.testing.assert_allclose(*numbers, rtol=0, atol=1e-4)  # printed with six digits
