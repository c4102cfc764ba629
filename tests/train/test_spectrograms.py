"""Claims about training on spectrograms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_runs import Facenet
from test_bad_input import assert_told
from test_features import save

from facenet_ext.embedding.loading import load_embedder
from facenet_ext.embedding.speed import change_speed
from facenet_ext.models import conv2d
from facenet_ext.train.augmentation import Reversal
from facenet_ext.train.draws import Rows

# Longer than wide, and small.
SHAPE = (8, 40)
SMALL = ("--preset", "speakers", "--held-out", 0.4)


def test_a_speed_moves_frequencies_and_times_by_its_factor() -> None:
    bands, length = 40, 101
    highest = 2595 * torch.log10(torch.tensor(1 + 8000 / 700))
    hertz = 700 * (10 ** (torch.arange(1, bands + 1) / (bands + 1) * highest / 2595) - 1)
    for speed in (0.8, 1.25):
        for band in (10, 20, 30):
            tone = torch.zeros(1, bands, length)
            tone[:, band] = 1
            moved = change_speed(tone, speed)[0, :, length // 2].argmax()
            assert moved == (hertz - speed * hertz[band]).abs().argmin()
        click = torch.zeros(1, bands, length)
        click[:, :, 50 + 20] = 1
        assert change_speed(click, speed)[0, 20].argmax() == 50 + round(20 / speed)
    drawn = torch.randn(3, bands, length)
    torch.testing.assert_close(change_speed(drawn, 1.0), drawn, atol=1e-3, rtol=0)
    each = change_speed(drawn, torch.tensor([0.9, 1.0, 1.1]))
    torch.testing.assert_close(each[2:], change_speed(drawn[2:], 1.1))


def test_half_of_a_batch_runs_backwards_whoever_works_on_which_rows() -> None:
    whole = torch.randn(1, 8, 40).expand(400, -1, -1)
    torch.manual_seed(4)
    changed = Reversal()(whole)
    backwards = (changed == whole.flip(2)).all(2).all(1)
    assert ((changed == whole).all(2).all(1) ^ backwards).all()
    assert 150 < backwards.sum() < 250
    torch.manual_seed(4)
    assert torch.equal(Reversal()(whole[2:50], Rows(2, 50, 400)), changed[2:50])


def test_a_spectrogram_may_be_of_any_length() -> None:
    network = conv2d((9, 40), 8, width=4).eval()
    voices = torch.randn(3, 9, 57)
    assert network(voices).shape == (3, 8)
    with pytest.raises(ValueError, match=r"expected \(bands, length\), got \(9,\)"):
        conv2d((9,))


def test_the_preset_learns_each_speed_of_a_speaker_as_another_one(facenet: Facenet) -> None:
    data = save("data.npz", shape=SHAPE)
    status, out, err = facenet(*("--data", data, *SMALL, "--output", "run"), pictures=True)
    assert (status, err) == (0, "")
    assert "train on 720 rows of features of 90 identities, verify 96 rows" in out
    figures = json.loads(Path("run/metrics.json").read_text())["summary"]["figures"]
    assert {"eer", "min_dcf"} <= figures.keys()
    assert Path("run/det.png").exists()
    embedder = load_embedder(Path("run/checkpoints/last.ckpt"))
    assert embedder.accepts((8, 55))
    voices = torch.randn(2, *SHAPE)
    torch.testing.assert_close(embedder(voices), embedder(voices.flip(2)))  # as it saw both


def test_a_batch_is_fitted_to_all_speeds_of_the_few_speakers(facenet: Facenet) -> None:
    data = save("data.npz", classes=10, shape=SHAPE)
    status, out, _ = facenet("--data", data, *SMALL, "--identities", 40)
    assert status == 2
    status, out, _ = facenet("--data", data, *SMALL, "--identities", 30)
    assert status == 0
    assert "train on 240 rows of features of 30 identities" in out


def test_what_is_for_spectrograms_is_refused_for_others(facenet: Facenet, faces: Path) -> None:
    rows = save("rows.npz")
    for options in (("--flip", "true"), ("--speeds", "[0.9,1.0]")):
        told = f"{' '.join(options)}: features are not augmented as images are, nor rows of [12] as"
        assert_told(facenet("--data", rows, *options), told)
    assert_told(
        facenet("--data", faces, "--speeds", "[0.9,1]"), "--speeds [0.9,1.0]: for spectrograms"
    )
    assert_told(
        facenet("--data", rows, "--model", "conv2d"),
        "--model conv2d: input_shape: expected (bands, length), got (12,)",
    )
    spectrograms = save("data.npz", shape=SHAPE)
    assert_told(
        facenet("--data", spectrograms, "--blur", 0.5, "--flip", "true"),
        "error: --blur 0.5: features are not augmented as images are",
    )
