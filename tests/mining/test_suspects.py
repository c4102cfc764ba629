"""Claims about probable mistakes: rows under a wrong label, and rows under two."""

import numpy as np
import pytest

from facenet_ext.mining import find_duplicates, find_mislabelled


def people(count: int = 60, images: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), images)
    centres = generator.standard_normal((count, 16))
    embeddings = centres[labels] + 0.2 * generator.standard_normal((len(labels), 16))
    return (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(
        np.float32
    ), labels


def test_rows_under_a_wrong_label_are_the_most_suspicious() -> None:
    embeddings, labels = people()
    wrong = [3, 100, 222]
    truth = labels[wrong].copy()
    labels[wrong] = (labels[wrong] + 17) % 60
    found = find_mislabelled(embeddings, labels, count=5)
    assert sorted(s.row for s in found[:3]) == wrong
    for suspect in found[:3]:
        assert suspect.score > 0.01
        assert labels[suspect.other] == truth[wrong.index(suspect.row)]
        assert labels[suspect.positive] == labels[suspect.row]
        assert suspect.positive != suspect.row
        assert suspect.d_other < suspect.d_positive
    assert found[3].score < 0.01
    assert [s.score for s in found] == sorted((s.score for s in found), reverse=True)


def test_the_distances_are_those_of_the_closest_rows() -> None:
    embeddings, labels = people(20, 4)
    (suspect,) = find_mislabelled(embeddings, labels, count=1)
    d = np.square(embeddings - embeddings[suspect.row]).sum(1)
    own = labels == labels[suspect.row]
    own[suspect.row] = False
    assert suspect.d_positive == pytest.approx(d[own].min(), rel=1e-5)
    assert suspect.d_other == pytest.approx(d[labels != labels[suspect.row]].min(), rel=1e-5)


def test_a_sample_of_the_others_is_enough() -> None:
    embeddings, labels = people()
    labels[100] = 3
    assert find_mislabelled(embeddings, labels, count=1, sample=80)[0].row == 100


def test_single_rows_have_nothing_to_be_compared_with() -> None:
    assert find_mislabelled(np.eye(4, dtype=np.float32), np.arange(4)) == []
    found = find_mislabelled(np.eye(4, dtype=np.float32), np.zeros(4, np.int64))
    assert all(s.score == 0 and s.other == -1 for s in found)


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_duplicates_across_labels_are_found_wherever_they_are(noise: float) -> None:
    embeddings, labels = people()
    generator = np.random.default_rng(5)
    pairs = [(5, 200), (17, 18 + 6), (300, 41)]
    for a, b in pairs:
        direction = generator.standard_normal(16)
        embeddings[b] = embeddings[a] + noise * direction / np.linalg.norm(direction)
    embeddings[61] = embeddings[60]  # of one label
    found = find_duplicates(embeddings, labels)
    assert [(a, b) for a, b, _ in found] == sorted((min(p), max(p)) for p in pairs)
    assert all(d <= 1e-6 for *_, d in found)


def test_of_many_copies_each_is_listed_beside_the_first() -> None:
    embeddings = np.tile(np.array([[0.6, 0.8]], np.float32), (3, 1))
    assert find_duplicates(embeddings, np.arange(3)) == [(0, 1, 0.0), (0, 2, 0.0)]
    collapsed = np.zeros((20_000, 16), np.float32)
    assert len(find_duplicates(collapsed, np.arange(20_000))) == 19_999
    collapsed += 1e-5 * np.random.default_rng(0).standard_normal(collapsed.shape, np.float32)
    assert 20_000 <= len(find_duplicates(collapsed, np.arange(20_000))) <= 160_000


def test_single_and_equal_labels_are_no_duplicates() -> None:
    embeddings = np.tile(np.array([[0.6, 0.8]], np.float32), (3, 1))
    assert find_duplicates(embeddings, np.zeros(3, np.int64)) == []
    assert find_duplicates(embeddings[:0], np.arange(0)) == []
