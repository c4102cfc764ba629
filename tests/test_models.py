"""Claims about the networks."""

import numpy as np
import pytest
import torch

from facenet_ext.models import WCCN, Alignment, Cohort, Committee, SmallNet


@pytest.mark.parametrize(
    ("channels", "size", "stages"), [(1, 16, (1, 1)), (3, 56, (1, 1, 1, 1)), (1, 35, (2, 1, 1))]
)
def test_embeddings_lie_on_the_unit_sphere(
    channels: int, size: int, stages: tuple[int, ...]
) -> None:
    network = SmallNet(channels, 48, input_size=size, width=4, stages=stages).eval()
    embeddings = network(torch.rand(3, channels, size, size))
    assert embeddings.shape == (3, 48)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_exposure_and_contrast_do_not_matter() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1)).eval()
    images = torch.rand(4, 1, 16, 16)
    same = (network(images) - network(0.5 * images + 0.3)).norm(dim=1)
    other = (network(images) - network(images.flip(0))).norm(dim=1)
    assert same.max() < other.min() / 3


def test_a_constant_image_gives_a_finite_embedding() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1)).eval()
    assert torch.isfinite(network(torch.full((2, 1, 16, 16), 0.5))).all()


def test_mixed_precision_ends_before_the_embedding() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = network(torch.rand(2, 1, 16, 16))
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_every_parameter_learns() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1))
    for parameter in network.parameters():  # the residual branches start switched off
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim == 1 else None
    network(torch.rand(4, 1, 16, 16))[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_too_many_stages_for_the_size_raise() -> None:
    with pytest.raises(ValueError, match="input_size must be at least 16 for 4 stages, got 12"):
        SmallNet(input_size=12, stages=(1, 1, 1, 1))


def test_an_alignment_starts_with_the_central_window() -> None:
    align = Alignment(1, 32, 28).eval()
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(align(images), images[:, :, 2:30, 2:30])


def test_an_alignment_undoes_what_moved_an_image() -> None:
    """Learned by itself, from how near the windows are."""
    torch.manual_seed(0)
    align = Alignment(1, 32, 16)
    optimizer = torch.optim.Adam(align.parameters(), lr=2e-3)
    pattern = torch.nn.functional.interpolate(torch.rand(1, 1, 5, 5), size=44, mode="bicubic")

    def moved(count: int) -> torch.Tensor:
        at = torch.randint(0, 13, (count, 2)).tolist()
        return torch.cat([pattern[:, :, y : y + 32, x : x + 32] for y, x in at])

    def apart(windows: torch.Tensor) -> torch.Tensor:
        return (windows - windows.mean(0)).square().mean() / windows.var((1, 2, 3)).mean()

    before = apart(align(moved(64))).item()
    for _ in range(60):
        optimizer.zero_grad()
        apart(align(moved(32))).backward()
        optimizer.step()
    assert apart(align(moved(64))).item() < before / 3


def test_windows_are_float32_under_mixed_precision() -> None:
    align = Alignment(1, 16, 14).eval()
    images = torch.rand(2, 1, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        windows = align(images)
    torch.testing.assert_close(windows, images[:, :, 1:15, 1:15], rtol=0, atol=1e-5)


def test_a_window_is_the_centre_that_was_asked_for() -> None:
    align = Alignment(1, 32, 8, window=0.25).eval()
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(align(images), images[:, :, 12:20, 12:20], rtol=0, atol=1e-5)
    for window in (0.0, 1.01, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"window must be in \(0, 1\], got"):
            SmallNet(input_size=32, aligned_size=16, aligned_window=window)


def test_a_window_lies_where_it_was_asked_for() -> None:
    align = Alignment(1, 32, 8, window=0.25, center=(0.25, 0.75)).eval()
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(align(images), images[:, :, 20:28, 4:12], rtol=0, atol=1e-5)
    for center in ((-0.01, 0.5), (0.5, 1.01), (float("nan"), 0.5)):
        with pytest.raises(ValueError, match=r"center must be in \[0, 1\], got"):
            SmallNet(input_size=32, aligned_size=16, aligned_center=center)


def test_a_window_that_does_not_learn_has_no_weights() -> None:
    align = Alignment(1, 32, 8, window=0.25, learned=False)
    assert not list(align.parameters())
    images = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(align(images), images[:, :, 12:20, 12:20], rtol=0, atol=1e-5)
    network = SmallNet(input_size=32, aligned_size=16, straighten=False)
    assert not list(network.features[0].parameters())
    assert list(SmallNet(input_size=32, aligned_size=16).features[0].parameters())


def test_too_many_stages_for_the_window_raise() -> None:
    with pytest.raises(ValueError, match="aligned_size must be at least 16 for 4 stages, got 12"):
        SmallNet(input_size=32, aligned_size=12)


def test_a_committee_measures_its_members_mean_distance() -> None:
    members = [SmallNet(input_size=16, width=4, stages=(1,), embedding_dim=d) for d in (3, 5)]
    committee = Committee(members).eval()
    images = torch.rand(2, 1, 16, 16)
    embeddings = committee(images)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))
    each = [member(images) for member in members]
    torch.testing.assert_close(
        (embeddings[0] - embeddings[1]).square().sum(),
        torch.stack([(e[0] - e[1]).square().sum() for e in each]).mean(),
    )
    assert committee.embedding_dim == embeddings.shape[1] == 8
    for part, expected in zip(committee.parts(embeddings), each, strict=True):
        torch.testing.assert_close(part, expected)


def test_wccn_makes_one_persons_images_scatter_alike_in_all_directions() -> None:
    generator = np.random.default_rng(3)
    counts = generator.integers(1, 5, 300)  # some classes say nothing
    labels = generator.permutation(np.repeat(np.arange(300), counts))
    mixing = generator.normal(size=(6, 6))
    rows = (
        generator.normal(size=(300, 6))[labels] + generator.normal(size=(len(labels), 6)) @ mixing
    )
    wccn = WCCN(6)
    wccn.fit(torch.tensor(rows), torch.tensor(labels))
    covariance, used = np.zeros((6, 6)), 0
    for label in np.flatnonzero(counts > 1):
        own = rows[labels == label]
        covariance += np.cov(own.T) * len(own)
        used += len(own)
    covariance /= used
    shrunk = covariance / np.diag(covariance).mean() + 0.1 * np.eye(6)
    transform = wccn.transform.double().numpy()
    np.testing.assert_allclose(transform @ shrunk @ transform.T, np.eye(6), atol=1e-5)
    wanted = (rows - rows.mean(0)) @ transform
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(wccn(torch.tensor(rows).float()).numpy(), wanted, atol=1e-5)


def test_wccn_of_classes_with_one_row_each_changes_nothing() -> None:
    rows = torch.nn.functional.normalize(torch.randn(9, 4))
    wccn = WCCN(4)
    wccn.fit(rows, torch.arange(9))
    wccn.fit(rows.repeat(2, 1), torch.arange(9).repeat(2))  # copies do not scatter
    torch.testing.assert_close(wccn(rows), rows)
    wccn.fit(rows, torch.arange(9) // 3)
    assert (wccn(rows) - rows).abs().max() > 0.01


def test_a_cohort_adds_the_hellinger_distance_of_resemblances() -> None:
    generator = np.random.default_rng(5)
    rows = generator.normal(size=(20, 6))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = np.repeat([3, 1, 7, 5], 5)
    cohort = Cohort(6, 3)
    unfitted = cohort(torch.tensor(rows).float()).numpy()
    squared = ((rows[:, None] - rows) ** 2).sum(2)
    np.testing.assert_allclose(((unfitted[:, None] - unfitted) ** 2).sum(2), squared, atol=1e-5)
    cohort.fit(torch.tensor(rows), torch.tensor(labels))
    people = np.stack([rows[labels == label].sum(0) for label in (1, 3, 5)])  # the first three
    people /= np.linalg.norm(people, axis=1, keepdims=True)
    shares = np.exp(rows @ people.T / 0.14)
    shares /= shares.sum(1, keepdims=True)
    hellinger = 0.5 * ((np.sqrt(shares)[:, None] - np.sqrt(shares)) ** 2).sum(2)
    found = cohort(torch.tensor(rows).float()).numpy()
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    distances = ((found[:, None] - found) ** 2).sum(2)
    np.testing.assert_allclose(distances, (squared + 4 * hellinger) / 3, atol=1e-5)


def test_a_cohort_of_fewer_people_takes_them_again() -> None:
    rows = torch.nn.functional.normalize(torch.randn(10, 4))
    few, twice = Cohort(4, 5), Cohort(4, 10)
    for cohort in (few, twice):
        cohort.fit(rows, torch.arange(10) // 2)
    a, b = (cohort(rows) @ cohort(rows).T for cohort in (few, twice))
    torch.testing.assert_close(a, b)
