"""The speaker example, end to end, on voices made here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from facenet_ext.train.command import main as train

soundfile = pytest.importorskip("soundfile")
EXAMPLES = Path(__file__).parents[1] / "examples"
if not EXAMPLES.is_dir():
    pytest.skip("the examples come with the source", allow_module_level=True)
sys.path.append(str(EXAMPLES))

import speakers  # noqa: E402


def voice(speaker: int, seconds: float, seed: int, rate: int) -> np.ndarray:
    """Pulses through three resonances: a pitch and a vocal tract of one's own, in noise."""
    own, now = np.random.default_rng(speaker), np.random.default_rng([speaker, seed])
    time = np.arange(round(seconds * rate)) / rate
    pitch = own.uniform(90, 250) * (1 + 0.05 * np.sin(2 * np.pi * now.uniform(2, 5) * time))
    phase = np.cumsum(pitch) / rate
    formants = [own.uniform(*band) for band in ((300, 900), (1000, 2200), (2300, 3500))]
    wave = np.zeros_like(time)
    for harmonic in range(1, 30):
        frequency = harmonic * pitch
        gain = sum(1 / (1 + ((frequency - f) / 120) ** 2) for f in formants)
        wave += gain * np.sin(2 * np.pi * harmonic * phase)
    loudness = 0.5 + 0.5 * np.abs(np.sin(2 * np.pi * 3 * time + now.uniform(0, 6)))
    return 0.1 * wave * loudness + 0.01 * now.standard_normal(len(time))


@pytest.fixture
def recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for speaker in range(24):
        folder = tmp_path / "recordings" / f"speaker_{speaker:02d}"
        folder.mkdir(parents=True)
        for number in range(3):
            rate = (16_000, 22_050)[number % 2]
            samples = voice(speaker, 2.3, number, rate)
            soundfile.write(folder / f"{number}.{('wav', 'flac')[number % 2]}", samples, rate)
    return tmp_path / "recordings"


@pytest.mark.ci
def test_speakers_are_told_apart_from_folders_of_recordings(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (recordings / "speaker_00" / "broken.wav").write_bytes(b"RIFF and no more")
    (recordings / "speaker_00" / "notes.txt").write_text("")
    speakers.main([str(recordings), "speakers.npz", "--seconds", "0.5"])
    out, err = capsys.readouterr()
    assert "288 pieces of 24 speakers, each 40 x 51" in out
    assert "broken.wav" in err
    status = train(
        [
            *(
                "--data",
                "speakers.npz",
                "--model",
                "conv1d",
                "--width",
                "16",
                "--stages",
                "[1,1,1]",
            ),
            *("--max-steps", "60", "--identities", "8", "--accelerator", "cpu", "--output", "run"),
            *("--held-out", "0.4"),
        ]
    )
    assert status == 0
    figures = json.loads(Path("run/metrics.json").read_text())
    assert figures["eer"] < 0.3


def test_no_recordings_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no recordings of 2 s or more; put them in"):
        speakers.main([str(tmp_path), "speakers.npz"])
