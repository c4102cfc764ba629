"""Claims about training on precomputed features."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import Facenet
from test_bad_input import assert_told

from facenet_ext.cli import main
from facenet_ext.embedding.loading import load_embedder


def save(path: str, classes: int = 30, shape: tuple[int, ...] = (12,), **changes: Any) -> str:
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), 8)
    centres = generator.standard_normal((classes, *shape))
    features = centres[labels] + 0.5 * generator.standard_normal((len(labels), *shape))
    np.savez(path, **({"features": features, "labels": labels} | changes))
    return path


@pytest.mark.parametrize(
    ("shape", "model"),
    [
        ((12,), "mlp"),
        ((5, 16), "mlp"),
        ((5, 16), "conv1d"),
        ((5, 16), "conv2d"),
        ((40,), "conv1d"),
    ],
)
def test_features_of_any_kind_are_trained_on(
    facenet: Facenet, shape: tuple[int, ...], model: str
) -> None:
    data = save("data.npz", shape=shape)
    status, out, err = facenet(
        *("--data", data, "--model", model, "--held-out", 0.4, "--output", "run"), pictures=True
    )
    assert (status, err) == (0, "")
    assert "train on 144 rows of features of 18 identities, verify 96 rows" in out
    assert not Path("run/mistakes.png").exists()
    assert Path("run/roc.png").exists()
    module = load_embedder(Path("run/checkpoints/last.ckpt"))
    assert module.shape == shape


def test_an_mlp_learns_and_tells_strangers_apart(facenet: Facenet) -> None:
    """One in four numbers says who it is; the others are louder."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(80), 8)
    signal = generator.standard_normal((80, 8))[labels] + 0.3 * generator.standard_normal((640, 8))
    features = np.concatenate([signal, 3 * generator.standard_normal((640, 24))], axis=1)
    names = np.array([f"speaker {label}" for label in labels])
    np.savez("data.npz", features=features, labels=names)
    status, _, err = facenet(
        *("--data", "data.npz", "--max-steps", 150, "--identities", 16, "--width", 64),
        *("--accelerator", "cpu", "--output", "run"),
        tiny=False,
    )
    assert (status, err) == (0, "")
    assert json.loads(Path("run/metrics.json").read_text())["auc"] > 0.85


def test_a_file_to_verify_on(facenet: Facenet) -> None:
    train, val = save("train.npz"), save("val.npz", classes=20)
    status, out, err = facenet("--data", train, "--val", val, "--output", "run")
    assert (status, err) == (0, "")
    assert "verify 160 rows of features of 20 identities" in out


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"labels": np.arange(3)}, "labels must be 240 integers or strings"),
        ({"labels": np.ones(240)}, "labels must be 240 integers or strings"),
        ({"features": np.ones(240)}, "features must be [rows, numbers]"),
        ({"features": np.full((240, 2), "a")}, "features must be numbers"),
        ({"features": np.full((240, 2), np.nan)}, "row 0 of the features is not finite"),
        ({"labels": np.zeros(240, int)}, "too few identities or rows (1 and 240)"),
        ({"labels": np.array([object()] * 240)}, "cannot be read"),
    ],
)
def test_bad_features(facenet: Facenet, changes: dict[str, Any], told: str) -> None:
    data = save("data.npz", **changes)
    assert_told(facenet("--data", data), told)


def test_other_bad_input(facenet: Facenet, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = save("data.npz")
    assert_told(facenet("--data", "none.npz"), "--data none.npz: cannot be read")
    Path("broken.npz").write_bytes(b"PK\x03\x04 cut short")
    assert_told(facenet("--data", "broken.npz"), "--data broken.npz: cannot be read")
    np.save("array.npy", np.ones((9, 12)))
    Path("array.npy").rename("array.npz")
    assert_told(facenet("--data", "array.npz"), "--data array.npz: an array, not an .npz")
    with zipfile.ZipFile("text.npz", "w") as file:
        file.writestr("features", b"no array")
        file.writestr("labels", b"no array")
    assert_told(facenet("--data", "text.npz"), "its entries are no arrays")
    damaged = bytearray(Path(data).read_bytes())
    damaged[200:400] = bytes(200)
    Path("damaged.npz").write_bytes(damaged)
    assert_told(facenet("--data", "damaged.npz"), "--data damaged.npz: cannot be read")
    np.savez("other.npz", features=np.ones((9, 12)))
    assert_told(facenet("--data", "other.npz"), "no array 'labels', there are features")
    assert_told(facenet("--data", data, "--pairs", "pairs.txt"), "--pairs pairs.txt: for images")
    assert_told(facenet("--data", data, "--val", save("val.npz", shape=(7,))), "must be [12]")
    assert_told(facenet("--data", data, "--model", "small"), "--model small: does not embed feat")
    assert_told(facenet("--data", data, "--blur", 0.5), "features are not augmented")
    assert_told(
        facenet("--data", faces, "--held-out", 0.4, "--model", "mlp"), "does not embed images"
    )
    assert facenet("--data", data, "--output", "rows")[0] == 0
    image = str(next(faces.rglob("*.png")))
    assert main(["verify", image, image, "--checkpoint", "rows"]) == 2
    told = capsys.readouterr().err
    assert "embeds features, not images" in told
    assert "give with --checkpoint a run on images" in told
    cube = save("cube.npz", shape=(2, 3))
    assert facenet("--data", cube, "--model", "conv1d", "--held-out", 0.4)[0] == 0
