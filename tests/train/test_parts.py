"""Claims about the parts of the training script that whole runs do not show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from rich.console import Console
from small_runs import write_faces, write_pairs

from facenet_ext.data.decoding import Geometry
from facenet_ext.data.image_list import ImageList, list_identities
from facenet_ext.data.listed import ListedImages
from facenet_ext.data.pairs import Pairs, all_pairs
from facenet_ext.data.placement import Room, place
from facenet_ext.embedding.crop_resize import CropResize
from facenet_ext.embedding.options import AugmentationOptions, OptimizerOptions
from facenet_ext.evaluation.protocols import read_protocol
from facenet_ext.evaluation.verification import verify
from facenet_ext.train.augmentation import Augmentation
from facenet_ext.train.optimization import make_optimizer, rate

STRONG = AugmentationOptions(
    flip=True,
    rotation=20,
    translation=0.1,
    scale=0.2,
    aspect=0.2,
    shear=0.1,
    brightness=0.2,
    contrast=0.2,
    gamma=0.3,
    illumination=0.3,
    blur=0.5,
    noise=0.1,
    erasing=0.5,
)


def test_the_central_crop_keeps_the_middle_pixels() -> None:
    images = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8)
    middle = CropResize(crop=0.5, size=4)(images)
    torch.testing.assert_close(middle, images[:, :, 2:6, 2:6] / 255)


def test_no_augmentation_leaves_the_images_alone() -> None:
    images = torch.randint(256, (3, 1, 8, 8), dtype=torch.uint8)
    plain = Augmentation(AugmentationOptions(), crop=1.0, size=8)(images)
    torch.testing.assert_close(plain, images / 255)


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = torch.randint(256, (1, 1, 8, 8), dtype=torch.uint8).expand(400, -1, -1, -1)
    torch.manual_seed(0)
    augmented = Augmentation(AugmentationOptions(flip=True), crop=1.0, size=8)(images)
    mirrored = torch.isclose(augmented, (images / 255).flip(3), atol=1e-5).flatten(1).all(1)
    kept = torch.isclose(augmented, images / 255, atol=1e-5).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_depends_on_the_seed_alone_and_differs_per_image(channels: int) -> None:
    images = torch.randint(256, (1, channels, 32, 32), dtype=torch.uint8).expand(6, -1, -1, -1)
    augment = Augmentation(STRONG, crop=0.9, size=24)
    torch.manual_seed(4)
    first = augment(images)
    torch.manual_seed(4)
    assert torch.equal(first, augment(images))
    assert first.shape == (6, channels, 24, 24)
    assert torch.isfinite(first).all()
    assert (torch.cdist(first.flatten(1), first.flatten(1)) + torch.eye(6)).min() > 0.1


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle", "step"])
@pytest.mark.parametrize("warmup", [0.0, 0.1])
def test_a_schedule_peaks_at_one_after_the_warmup(schedule: str, warmup: float) -> None:
    rates = [rate(schedule, step, steps=100, warmup=warmup) for step in range(101)]
    start = 30 if schedule == "onecycle" and not warmup else round(100 * warmup)
    assert max(rates) == rates[start] == 1
    assert rates[:start] == sorted(rates[:start])
    assert rates[start:] == sorted(rates[start:], reverse=True)
    assert all(r > 0 for r in rates[:-1])
    end = {"constant": 1.0, "cosine": 0.0, "onecycle": 0.0, "step": 0.01}[schedule]
    assert rates[100] == pytest.approx(end)


def test_weight_decay_spares_biases_and_norms() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = make_optimizer(network, OptimizerOptions(weight_decay=0.5))
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[p] for name, p in network.named_parameters()} == {
        "0.weight": 0.5,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
    }


def test_a_pairs_file_is_read_as_it_stands(tmp_path: Path) -> None:
    faces = write_faces(tmp_path / "faces", {f"Person_{i:02d}": 2 for i in range(10)})
    file = read_protocol(str(faces), str(write_pairs(tmp_path / "pairs.txt")))
    images = [(path.parent.name, int(path.stem[-4:])) for path in file.images.paths]
    named = [
        (images[i], images[j], same)
        for i, j, same in zip(
            file.pairs.first.tolist(),
            file.pairs.second.tolist(),
            file.pairs.same.tolist(),
            strict=True,
        )
    ]
    assert named[0] == (("Person_06", 1), ("Person_06", 2), True)
    assert named[3] == (("Person_06", 2), ("Person_07", 2), False)
    assert file.pairs.folds.tolist() == [0] * 4 + [1] * 4
    assert not file.pairs.balanced


def test_all_pairs_are_all() -> None:
    pairs = all_pairs(torch.arange(60) // 6)
    assert len(pairs.same) == 60 * 59 / 2
    assert (pairs.first < pairs.second).all()
    assert int(pairs.same.sum()) == 10 * 15


def test_millions_of_pairs_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facenet_ext.data.pairs._MOST_PAIRS", 200)
    labels = torch.arange(120) // 4
    pairs = all_pairs(labels)
    assert 100 <= len(pairs.same) <= 400
    assert torch.equal(pairs.same, labels[pairs.first] == labels[pairs.second])
    assert (pairs.first != pairs.second).all()
    assert torch.equal(all_pairs(labels).first, pairs.first)


def test_perfect_embeddings_verify_perfectly() -> None:
    labels = torch.arange(40) // 4
    result = verify(torch.eye(10)[labels], all_pairs(labels))
    assert (result.accuracy.mean, result.auc, result.eer) == (1, 1, 0)
    assert result.threshold == 1  # half-way between 0 and 2


def test_figures_without_a_number_are_null() -> None:
    pairs = Pairs(
        torch.tensor([0, 0, 0, 0]),
        torch.tensor([1, 2, 1, 2]),
        torch.tensor([True, False, True, False]),
        torch.tensor([0, 0, 1, 1]),
    )
    figures = verify(torch.ones(3, 2), pairs).as_dict()
    assert [point["threshold"] for point in figures["val_far"]] == [None, None]


def test_images_are_decoded_upright_in_the_order_given(tmp_path: Path) -> None:
    image = Image.new("L", (10, 20))
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 3  # taken upside down
    image.save(tmp_path / "turned.png", exif=exif)
    Image.new("RGBA", (30, 30), (255, 0, 0, 255)).save(tmp_path / "colour.png")
    images = ListedImages(ImageList(tmp_path, ["turned.png", "colour.png"], ["Ann", "Ann"]))
    (placed,) = place([images], Geometry(10, 3), Room(memory=1.0), Console(quiet=True))
    pixels = placed.values
    assert placed.rows.tolist() == [0, 1]
    assert pixels.shape == (2, 3, 10, 10)
    assert pixels[1, :, 5, 5].tolist() == [255, 0, 0]


def test_only_images_in_folders_of_identities_are_listed(tmp_path: Path) -> None:
    root = write_faces(tmp_path / "faces", {"B": 2, "A": 1, ".hidden": 3})
    (root / "notes.txt").write_text("")
    (root / "A" / "notes.txt").write_text("")
    (root / "A" / ".A_0009.png").write_bytes(b"")
    assert [(path.parent.name, path.name) for path in list_identities(root).paths] == [
        ("A", "A_0001.png"),
        ("B", "B_0001.png"),
        ("B", "B_0002.png"),
    ]


def test_a_shift_moves_the_crop_right_and_down() -> None:
    images = torch.zeros(1, 1, 20, 20, dtype=torch.uint8)
    images[0, 0, 12, 11] = 255  # below and right of the centre
    still = CropResize(0.5, 10)(images)
    moved = CropResize(0.5, 10)(images, (0.05, 0.1))  # by one pixel right, by two down
    assert still[0, 0, 7, 6] == 1
    assert moved[0, 0, 5, 5] == pytest.approx(1, abs=1e-4)


def test_the_same_pairs_of_huge_identities_are_sampled_without_listing_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("facenet_ext.data.pairs._MOST_PAIRS", 2_000)
    labels = torch.tensor([4] * 90 + [7] + [2] * 40 + [9] * 3)[torch.randperm(134)]
    pairs = all_pairs(labels)  # of 4,788 same pairs
    assert torch.equal(pairs.same, labels[pairs.first] == labels[pairs.second])
    same = torch.stack([pairs.first, pairs.second])[:, pairs.same]
    named = {tuple(sorted(pair)) for pair in same.T.tolist()}
    assert 1_500 < same.shape[1] == len(named), "each once"
    assert (same[0] != same[1]).all()
    of = torch.bincount(labels[same[0]], minlength=10) / len(named)
    expected = torch.tensor([40 * 39, 90 * 89, 3 * 2]) / (2 * 4_788)
    torch.testing.assert_close(of[[2, 4, 9]], expected, atol=0.03, rtol=0)
