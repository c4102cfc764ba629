"""Claims about Fisher vectors, against an independent computation in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from facenet_ext.models import Cohort, FisherVectors, Head
from facenet_ext.train.fisher import fit_mixture, fit_projection


def _random(shape: tuple[int, int, int] = (1, 40, 40), dim: int = 5) -> FisherVectors:
    fisher = FisherVectors(shape, dim, components=7)
    fisher.basis.normal_()
    fisher.centre.normal_(std=0.1)
    fisher.shares.copy_(torch.rand(7).softmax(0))
    fisher.means.normal_()
    fisher.deviations.uniform_(0.5, 2)
    fisher.projection.normal_()
    fisher.offset.normal_(std=0.1)
    return fisher


def _gradient(fisher: FisherVectors, patches: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The formula of the docstring, one Gaussian after another."""
    shares, means, sigma = (
        value.double().numpy() for value in (fisher.shares, fisher.means, fisher.deviations)
    )
    logs = np.stack(
        [
            np.log(share) - np.log(s).sum() - 0.5 * (((patches - m) / s) ** 2).sum(1)
            for share, m, s in zip(shares, means, sigma, strict=True)
        ],
        1,
    )
    gamma = np.exp(logs - logs.max(1, keepdims=True))
    gamma /= gamma.sum(1, keepdims=True)
    scaled = [(patches - m) / s for m, s in zip(means, sigma, strict=True)]
    count = len(patches)
    first = [
        (g[:, None] * x).sum(0) / count / np.sqrt(share)
        for g, x, share in zip(gamma.T, scaled, shares, strict=True)
    ]
    second = [
        (g[:, None] * (x**2 - 1)).sum(0) / count / np.sqrt(2 * share)
        for g, x, share in zip(gamma.T, scaled, shares, strict=True)
    ]
    g = np.concatenate([*first, *second])
    v = np.sign(g) * np.sqrt(np.abs(g))
    return v / np.linalg.norm(v)


def test_fisher_vectors_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    fisher = _random()
    images = torch.rand(5, 1, 40, 40)
    wanted = []
    for image in images:
        sides = [_gradient(fisher, x[0].double().numpy()) for x in fisher.reduced(image[None])]
        v = sides[0] + sides[1]
        wanted.append(v / np.linalg.norm(v))
    found = fisher.vectors(images)
    np.testing.assert_allclose(found.numpy(), np.stack(wanted), atol=2e-4)
    z = np.stack(wanted) @ fisher.projection.double().numpy() - fisher.offset.double().numpy()
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    np.testing.assert_allclose(fisher(images).numpy(), z, atol=2e-3)


def test_patches_are_reduced_by_a_convolution() -> None:
    torch.manual_seed(1)
    fisher = _random((3, 43, 52))
    images = torch.rand(3, 3, 43, 52)
    patches, places = fisher.patches(images)
    wanted = (patches.double() - fisher.centre.double()) @ fisher.basis.double()
    found, _ = fisher.reduced(images)
    torch.testing.assert_close(found[..., :64].double(), wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[..., 64:], places.expand(3, -1, -1))
    coarse = FisherVectors((3, 43, 52), 5, components=7, mirror=False, step=3)
    coarse.load_state_dict(fisher.state_dict())
    (some,) = coarse.reduced(images)
    begin = 0
    kept = []
    for apart in (1, 2, 3):
        h, w = (-(-size // 3) - 3 * apart for size in (43, 52))
        grid = torch.arange(begin, begin + h * w).view(h, w)
        kept.append(grid[::3, ::3].flatten())
        begin += h * w
    assert begin == len(places)
    torch.testing.assert_close(some, found[:, torch.cat(kept)], rtol=1e-4, atol=1e-4)


def test_an_image_and_its_mirror_image_have_the_same_fisher_vector() -> None:
    torch.manual_seed(1)
    fisher = _random((3, 49, 61))  # the grid of patches is symmetric
    images = torch.rand(3, 3, 49, 61)
    image, mirrored = fisher.reduced(images)
    of_mirror, _ = fisher.reduced(images.flip(3))
    assert (mirrored - image).abs().max() > 0.5
    sets = [x[0][x[0].sum(1).argsort()] for x in (mirrored, of_mirror)]
    torch.testing.assert_close(*sets, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fisher(images), fisher(images.flip(3)), rtol=1e-3, atol=1e-4)
    fisher.mirror = False
    assert (fisher(images) - fisher(images.flip(3))).abs().max() > 0.01


def test_a_patch_tells_the_direction_of_its_edges_and_where_they_are() -> None:
    image = torch.zeros(1, 1, 48, 48)
    image[..., 24:] = 1.0  # darker on the left: the edge rises to the right, direction 0
    fisher = FisherVectors((1, 48, 48), 2, components=2)
    patches, places = fisher.patches(image)
    shares = (patches[0] ** 2).view(-1, 8, 4, 4).sum((2, 3))
    near = (places[:, 1].abs() < 0.2) & (places[:, 0].abs() < 0.5)
    # The cosines cubed of 0 and 45 degrees to both sides.
    wanted = torch.tensor([1, 0.5**1.5, 0, 0, 0, 0, 0, 0.5**1.5])
    torch.testing.assert_close(shares[near], (wanted / wanted.sum()).expand(int(near.sum()), 8))
    torch.testing.assert_close(patches.norm(dim=2), torch.ones(1, len(places)))
    assert places.abs().max() < 1
    # The first patches, of the smallest size, run from left to right, then down.
    assert places[0, 0] == places[1, 0] < 0
    assert places[0, 1] < places[1, 1]
    upper = torch.zeros(1, 1, 48, 48)
    upper[..., 24:, :] = 1.0
    turned, _ = fisher.patches(upper)
    assert (turned[0] ** 2).view(-1, 8, 4, 4).sum((2, 3))[near].argmax(1).eq(2).any()


def test_autocast_does_not_change_them() -> None:
    torch.manual_seed(2)
    fisher, images = _random(), torch.rand(2, 1, 40, 40)
    with torch.autocast("cpu", torch.bfloat16):
        found = fisher(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, fisher(images), rtol=0, atol=0)


def test_the_mixture_is_that_of_the_patches() -> None:
    """Two kinds of patches, a quarter and three quarters of all, are found as two Gaussians."""
    torch.manual_seed(3)
    fisher = FisherVectors((1, 40, 40), 2, components=2)
    kinds = torch.rand(2, 128)
    which = torch.arange(4000) % 4 == 0
    patches = kinds[which.long()] + 0.02 * torch.randn(4000, 128)
    places = torch.rand(4000, 2) * 2 - 1
    fit_mixture(fisher, patches, places, seed=0)
    torch.testing.assert_close(fisher.shares.sort().values, torch.tensor([0.25, 0.75]))
    reduced = torch.cat([(patches - fisher.centre) @ fisher.basis, places], 1)
    nearest = torch.cdist(reduced, fisher.means).argmin(1)
    assert len(torch.unique(torch.stack([nearest, which.long()]), dim=1).T) == 2
    spread = reduced[which].std(0, correction=0)
    rare = fisher.deviations[fisher.shares.argmin()]
    torch.testing.assert_close(rare.square(), spread.square() + 0.01, rtol=1e-2, atol=1e-3)


def test_the_projection_keeps_what_varies_and_whitens_within_people() -> None:
    generator = np.random.default_rng(4)
    labels = torch.from_numpy(np.repeat(np.arange(60), 5))
    basis = np.linalg.qr(generator.normal(size=(2 * 7 * 66, 12)))[0]
    people = generator.normal(size=(60, 6))[labels] @ basis[:, :6].T
    noise = generator.normal(size=(300, 6)) @ basis[:, 6:].T
    vectors = torch.from_numpy(3 + people + 4 * noise).float()
    fisher = _random(dim=12)
    fit_projection(fisher, vectors.clone(), labels, seed=0)
    z = vectors @ fisher.projection - fisher.offset
    torch.testing.assert_close(z.mean(0), torch.zeros(12), atol=1e-3, rtol=0)
    z = torch.nn.functional.normalize(z)
    alike = z @ z.T
    same = labels[:, None] == labels
    apart = ~torch.eye(300, dtype=torch.bool)
    # Of a mean variance of 8 within people, 0.8 stands for what they do not vary in at all.
    people, noise = 1 / 0.8, 16 / 16.8
    assert alike[same & apart].mean() == pytest.approx(people / (people + noise), abs=0.05)
    assert alike[~same].mean() < 0.05
    plain = torch.nn.functional.normalize(vectors - vectors.mean(0))
    assert (plain @ plain.T)[same & apart].mean() < 0.2


def test_fewer_images_than_components_leave_the_rest_at_zero() -> None:
    fisher = _random(dim=20)
    fit_projection(fisher, torch.randn(9, 2 * 7 * 66), torch.arange(9) // 2, seed=0)
    assert fisher.fitted
    assert fisher(torch.rand(2, 1, 40, 40)).isfinite().all()


def test_a_head_joins_them_to_what_the_network_returns() -> None:
    torch.manual_seed(5)
    fisher, inputs = _random(), torch.rand(4, 1, 40, 40)
    rows = torch.nn.functional.normalize(torch.randn(4, 6))
    head = Head(None, fisher, None, 6)
    joined = head(rows, inputs)
    assert joined.shape == (4, head.embedding_dim) == (4, 11)
    torch.testing.assert_close(joined.norm(dim=1), torch.ones(4))
    wanted = (rows @ rows.T + 4 * fisher(inputs) @ fisher(inputs).T) / 5
    torch.testing.assert_close(joined @ joined.T, wanted)
    fisher.projection.zero_()  # not fitted yet
    fisher.offset.zero_()
    torch.testing.assert_close(head(rows, inputs), torch.cat([rows, torch.zeros(4, 5)], 1))
    assert not fisher.fitted
    assert Head(None, fisher, Cohort(11, 3), 6)(rows, inputs).shape == (4, 14)
    assert head
    assert not Head(None, None, None, 6)


@pytest.mark.parametrize("shape", [(1, 27, 96), (12,), (5, 40)])
def test_inputs_that_have_no_patches_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images of 28 pixels and more, and the inputs are \["):
        FisherVectors(shape, 4)  # type: ignore[arg-type]
    FisherVectors((1, 28, 28), 4, components=2).vectors(torch.rand(1, 1, 28, 28))
