"""Claims about options and data: what nobody gave is fitted, what cannot be is told at once."""

from __future__ import annotations

import random
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from small_runs import Facenet, write_faces

import facenet_ext.train.data
from facenet_ext.cli.train_options import parse
from facenet_ext.common.errors import InputError
from facenet_ext.data.pairs import all_pairs
from facenet_ext.embedding.options import Options, spelled
from facenet_ext.evaluation import held_out
from facenet_ext.samplers import MPerClassSampler
from facenet_ext.train import fitting
from facenet_ext.train.data import load
from facenet_ext.train.fitting import Fitted, fit

PRESETS = ("faces", "paper")


def people(root: Path, counts: dict[int, int]) -> Path:
    """Make people with so many image files each, which need not be decoded: {images: people}."""
    number = 0
    for images, several in counts.items():
        for _ in range(several):
            (root / f"p{number:03d}").mkdir(parents=True)
            for image in range(images):
                (root / f"p{number:03d}" / f"{image}.png").touch()
            number += 1
    return root


def fitted(*argv: object) -> Fitted:
    arguments = [str(argument) for argument in argv]
    options, _, given = parse(arguments, "facenet train")
    return fit(options, given, command=["facenet", "train", *arguments])


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({10: 40}, "fitted to 32 people with 2 images or more: --identities 32 --negatives 0"),
        ({10: 40, 1: 20}, "people with 2 images or more: --identities "),
        ({4: 4}, "fitted to 2 people with 2 images or more: --identities 2 --negatives 0"),
        ({2: 22}, "fitted to 12 people with 2 images or more: --held-out 0.45 --identities 12"),
        ({10: 300, 1: 300}, None),
    ],
)
def test_what_nobody_gave_is_fitted_to_the_people(
    tmp_path: Path, counts: dict[int, int], told: str | None
) -> None:
    options, line = fitted("--data", people(tmp_path / "faces", counts))
    assert (line is None) == (told is None)
    assert (told or "") in (line or "")
    assert options.batch.images_per_identity == 3  # of 2 images one is shown twice


def test_what_was_given_stays(tmp_path: Path) -> None:
    data = people(tmp_path / "faces", {10: 40})
    options, line = fitted("--data", data, "--identities", 7, "--held-out", 0.5)
    assert (options.batch.identities, options.data.held_out) == (7, 0.5)
    assert line == "fitted to 20 people with 2 images or more: --negatives 0"


def test_people_with_one_image_can_be_learned_from_where_others_are_verified(
    tmp_path: Path,
) -> None:
    data, val = people(tmp_path / "a", {1: 5}), people(tmp_path / "b", {9: 3})
    line = "fitted to 5 people with 1 image or more: --min-images 1 --identities 5 --negatives 0"
    assert fitted("--data", data, "--val", val).told == line
    with pytest.raises(InputError, match=r"too few people or images \(5 and 5\) to train on some"):
        fitted("--data", data)


def test_a_batch_is_fitted_to_its_size(tmp_path: Path) -> None:
    data = people(tmp_path / "faces", {10: 300, 1: 300})
    small = fitted("--data", data, "--batch-size", 60).options.batch
    assert (small.identities, small.images_per_identity, small.negatives) == (20, 3, 0)
    tiny = fitted("--data", data, "--batch-size", 5, "--images-per-identity", 2).options.batch
    assert (tiny.identities, tiny.images_per_identity) == (2, 2)
    paper = fitted("--data", data, "--preset", "paper", "--negatives", 7).options.batch
    assert (paper.batch_size, paper.negatives) == (None, 7)


def test_all_that_cannot_be_is_told_at_once_with_a_command_that_works(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = ("--identities", 50, "--negatives", 9, "--min-images", "3", "--held-out=0.99")
    with monkeypatch.context() as patch:
        patch.setattr(facenet_ext.train.data, "place", lambda *_: pytest.fail("decoded"))
        status, out, err = facenet("--data", faces, *wrong)
    assert (status, out) == (2, "")
    told = (
        "facenet train: error: --held-out 0.99: that is 14 of the 14 people, which leaves too few "
        "to train on; --identities 50: of 7 people to train on 4 have 3 images or more; "
        "--negatives 9: of 7 people to train on 3 have fewer than 3 images; this works: "
    )
    assert err.startswith(told)
    command = shlex.split(err.removeprefix(told))
    assert command[:2] == ["facenet", "train"]
    status, _, err = facenet(*command[2:], tiny=False)
    assert (status, err) == (0, "")
    assert command[-6:] == shlex.split("--held-out 0.5 --identities 4 --negatives 3")


def test_problems_of_every_kind_are_told_at_once(facenet: Facenet, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").touch()
    status, _, err = facenet(*("--data", "nowhere.npz", "--pairs", "p.txt", "--output", "old"))
    assert status == 2
    for part in (
        "--pairs p.txt: for images",
        "--output old already holds a run",
        "nowhere.npz: cannot be read",
    ):
        assert part in err


def test_what_is_wrong_is_told_without_torch(tmp_path: Path) -> None:
    data = people(tmp_path / "faces", {10: 40})
    code = (
        "import sys; from facenet_ext.cli import main\n"
        f"status = main(['train', '--data', {str(data)!r}, '--identities', '33'])\n"
        "assert not {'torch', 'lightning', 'sklearn'} & sys.modules.keys()\n"
        "sys.exit(status)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 2, result.stderr
    assert "this works: facenet train --data" in result.stderr


def test_the_digits_are_counted_as_they_are() -> None:
    data = load(Options().data, Console(quiet=True))
    train = fitting._count(Options().data, None)[1]
    assert sorted(train.values()) == sorted(Counter(data.train.labels.tolist()).values())


@pytest.mark.parametrize("count", [0, 1, 2, 7, 3000])
def test_who_is_held_out_is_who_always_was(count: int) -> None:
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()
    assert held_out.in_order(range(count)) == order


def test_whatever_the_data_a_batch_can_be_drawn_and_pairs_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options that were given are kept or told; with those told corrected, none is wrong."""
    chance = random.Random(0)
    choices: dict[str, list[Any]] = {
        "identities": [2, 5, 200],
        "images_per_identity": [2, 9],
        "negatives": [0, 3, 50],
        "min_images": [1, 2, 6],
        "batch_size": [3, 8, 40, 3000],
        "held_out": [0.01, 0.3, 0.9],
        "repeat": [True, False],
    }
    possible = 0
    presets = {name: parse(["--preset", name, "--data", "f"], "").options for name in PRESETS}
    for _ in range(60):
        sizes = [chance.choice([1, 1, 2, 3, 8, 30]) for _ in range(chance.randint(2, 40))]
        counts = Counter({f"p{i:02d}": size for i, size in enumerate(sizes)})
        monkeypatch.setattr(fitting, "_count", lambda *_, c=counts: ((1, 96, 96), c, None))
        preset = chance.choice(PRESETS)
        chosen = chance.sample(sorted(choices), chance.randint(0, 4))
        given = {name: chance.choice(choices[name]) for name in chosen}
        options = Options.from_flat(presets[preset].flat() | given)
        argv = ["facenet", "train", "--data", "f", "--preset", preset]
        argv += shlex.split(" ".join(spelled(name, value) for name, value in given.items()))
        try:
            options = fit(options, given, command=argv).options
        except InputError as error:
            told = str(error)
            if "too few people or images" in told:
                continue
            options = fitted(*shlex.split(told.partition("this works: facenet train ")[2])).options
        else:
            assert given.items() <= options.flat().items()
        possible += 1
        ordered = [counts[name] for name in held_out.in_order(counts)]
        number = held_out.held_out_count(len(ordered), options.data.held_out)
        batch = options.batch
        sampler = MPerClassSampler(
            np.repeat(np.arange(len(ordered) - number), ordered[number:]).tolist(),
            batch.images_per_identity,
            batch.identities,
            negatives=batch.negatives,
            min_images=batch.min_images,
            repeat=batch.repeat,
            batch_size=batch.batch_size,
        )
        if batch.batch_size is not None and batch.repeat:
            assert len(sampler.batch(0)) <= batch.batch_size
        all_pairs(torch.from_numpy(np.repeat(np.arange(number), ordered[:number])))
    assert possible > 30


def test_images_that_cannot_be_read_leave_people_out_of_the_batches(
    facenet: Facenet, tmp_path: Path
) -> None:
    root = write_faces(tmp_path / "faces", {f"P{i}": 2 if i == 7 else 30 for i in range(9)})
    assert "P7" not in held_out.choose({f"P{i}" for i in range(9)}, 0.2)
    (root / "P7" / "P7_0001.png").write_bytes(b"no image")
    status, out, err = facenet(
        *("--data", root, "--output", "run", "--input-size", 16, "--width", 4, "--stages", "[1,1]"),
        *("--aligned-size", "null", "--members", 1, "--threads", 1, "--max-steps", 1),
        tiny=False,
    )
    assert (status, err) == (0, "")
    assert "fitted to 7 people with 2 images or more: --identities 7" in out
    assert "fitted to 6 identities with 2 images or more: --identities 6" in out
