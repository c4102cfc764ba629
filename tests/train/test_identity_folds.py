"""Claims about folds: they split identities, and few identities are said to be few."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console
from small_runs import write_faces, write_pairs
from torch import Tensor
from torch.nn.functional import normalize

from facenet_ext.data.pairs import all_pairs
from facenet_ext.evaluation.protocols import read_protocol
from facenet_ext.evaluation.table import table
from facenet_ext.evaluation.verification import Verification, verify
from facenet_ext.metrics import kfold_accuracy


def people(count: int, images: int = 6, seed: int = 0, singles: int = 0) -> tuple[Tensor, Tensor]:
    """Return embeddings of people, some of whom are harder to recognise, and their labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count).repeat_interleave(images)
    labels = torch.cat([labels, torch.arange(count, count + singles)])
    means = torch.randn(count + singles, 6, generator=generator)
    spread = 0.3 + 0.9 * torch.rand(count + singles, 1, generator=generator)
    noise = torch.randn(len(labels), 6, generator=generator)
    return normalize(means[labels] + spread[labels] * noise), labels


def verified(count: int, images: int = 6, seed: int = 0, singles: int = 0) -> Verification:
    embeddings, labels = people(count, images, seed, singles)
    return verify(embeddings, all_pairs(labels))


@pytest.mark.parametrize(
    ("count", "singles", "folds"),
    [(40, 0, 10), (20, 30, 10), (20, 0, 10), (9, 0, 4), (4, 0, 2), (2, 2, 2), (3, 0, 1)],
)
def test_nobody_is_in_a_fold_and_in_what_its_threshold_is_from(
    count: int, singles: int, folds: int
) -> None:
    _, labels = people(count, singles=singles)
    pairs = all_pairs(labels)
    assert torch.equal(pairs.folds, all_pairs(labels).folds), "always the same"
    assert pairs.identities == count + singles
    numbers = pairs.folds.unique().tolist()
    assert len(numbers) == folds
    whose = torch.stack([labels[pairs.first], labels[pairs.second]], dim=1)
    for fold in numbers if folds > 1 else []:
        inside = pairs.folds == fold
        judged, chosen_on = inside.all(1), ~inside.any(1)
        assert not set(whose[judged].flatten().tolist()) & set(whose[chosen_on].flatten().tolist())
        for rows in (judged, chosen_on):
            assert set(pairs.same[rows].tolist()) == {True, False}


def test_a_fold_does_not_see_its_own_people_before_it_is_judged() -> None:
    """Whatever its people's distances are, also those to others: its threshold is the same."""
    embeddings, labels = people(12)
    pairs = all_pairs(labels)
    distances = verify(embeddings, pairs).distances
    before = kfold_accuracy(distances, pairs.same, pairs.folds, balanced=True)
    for fold, threshold in enumerate(before.thresholds.tolist()):
        changed = distances.clone()
        changed[(pairs.folds == fold).any(1)] = 0.123
        after = kfold_accuracy(changed, pairs.same, pairs.folds, balanced=True)
        assert after.thresholds[fold].item() == threshold
        assert after.accuracies[fold] != before.accuracies[fold]


def test_the_standard_error_is_how_much_other_people_would_change_accuracy() -> None:
    found = [verified(20, images=3, seed=seed).accuracy for seed in range(40)]
    spread = torch.tensor([one.mean for one in found]).std().item()
    told = math.sqrt(sum(one.standard_error**2 for one in found) / len(found))
    assert told == pytest.approx(spread, rel=0.3)


def test_too_few_people_for_folds_have_no_standard_error() -> None:
    verification = verified(3)
    figures = verification.as_dict()
    assert figures["identities"] == 3
    assert figures["pairs"]["folds"] == 1
    assert figures["accuracy"]["standard_error"] is None
    distances, same = verification.distances, verification.pairs.same
    right = (distances <= verification.threshold) == same
    best = (right[same].double().mean() + right[~same].double().mean()).item() / 2
    assert figures["accuracy"]["mean"] == pytest.approx(best)
    assert "too few for folds" in shown(verification)
    assert "±" not in shown(verification)


def shown(verification: Verification) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(table(verification))
    return " ".join(console.export_text().split())


def test_below_twenty_people_it_is_said_that_figures_mean_little() -> None:
    sentence = "only 19 identities are verified, so these figures mean little: give 20 or more"
    assert sentence in shown(verified(19))
    assert "mean little" not in shown(verified(20))
    assert "of 20 identities" in shown(verified(20))


def test_people_who_cannot_be_read_leave_folds_of_both_kinds() -> None:
    embeddings, labels = people(20, images=2)
    pairs = all_pairs(labels)
    kept = [row for row in range(40) if row not in (0, 2, 4, 6, 8, 10, 12)]
    among = pairs.among(kept)
    assert among.identities == 20
    verify(embeddings[kept], among)  # raises where a fold has one kind of pair only


def listed(root: Path, names: list[list[str]]) -> Path:
    """Write pairs.csv: all pairs of images of people, whose images are named."""
    whose = {name: number for number, images in enumerate(names) for name in images}
    rows = [
        f"{one},{other},{int(whose[one] == whose[other])}"
        for at, one in enumerate(whose)
        for other in list(whose)[at + 1 :]
    ]
    for name in whose:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    (root / "pairs.csv").write_text("\n".join(["first,second,same", *rows]) + "\n")
    return root / "pairs.csv"


@pytest.mark.parametrize("folder", ["person_{who}/", ""])
def test_own_pairs_without_folds_are_split_by_identity(tmp_path: Path, folder: str) -> None:
    """Where images lie in folders of people, and where only the pairs say who is who."""
    names = [[f"{folder.format(who=who)}{who}_{k}.png" for k in range(4)] for who in range(6)]
    pairs = read_protocol(str(tmp_path), str(listed(tmp_path, names))).pairs
    assert pairs.identities == 6
    assert pairs.labels is not None
    assert pairs.folds.shape == (len(pairs.same), 2)
    folds = {
        int(label): int(fold)
        for images, side in ((pairs.first, 0), (pairs.second, 1))
        for label, fold in zip(pairs.labels[images], pairs.folds[:, side], strict=True)
    }
    assert len(folds) == 6
    assert len(set(folds.values())) == 3
    assert all(pairs.labels[row] == pairs.labels[row // 4 * 4] for row in range(24))


def test_pairs_of_lfw_keep_their_folds_and_count_people(tmp_path: Path) -> None:
    root = write_faces(tmp_path / "lfw", {f"Person_{i:02d}": 4 for i in range(10)})
    pairs = read_protocol(str(root), str(write_pairs(root / "pairs.txt"))).pairs
    assert pairs.folds.tolist() == [0] * 4 + [1] * 4
    assert pairs.identities == 4
    assert json.dumps(verify(normalize(torch.rand(8, 4)), pairs).as_dict())
