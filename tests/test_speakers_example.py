"""The speaker example, end to end, on voices made here."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from facenet_ext.cli.train import main as train

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
    for speaker in range(10):
        folder = tmp_path / "recordings" / f"speaker_{speaker:02d}"
        folder.mkdir(parents=True)
        for number in range(4):
            rate = (16_000, 22_050)[number % 2]
            samples = voice(speaker, 2.3, number, rate)
            soundfile.write(folder / f"{number}.{('wav', 'flac')[number % 2]}", samples, rate)
    return tmp_path / "recordings"


@pytest.mark.ci
def test_speakers_are_told_apart_from_folders_of_recordings(
    recordings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the commands of the documentation, on ten speakers."""
    chapter = recordings / "speaker_00" / "chapter"
    chapter.mkdir()
    (recordings / "speaker_00" / "0.wav").rename(chapter / "0.wav")
    commands = (EXAMPLES.parent / "docs" / "speakers.md").read_text()
    assert "python -m examples.speakers recordings speakers.npz --seconds 2\n" in commands
    speakers.main(["recordings", "speakers.npz", "--seconds", "0.5"])
    out, err = capsys.readouterr()
    assert "160 pieces of 10 speakers, each 40 x 51" in out
    assert err == ""
    (command,) = re.findall(r"^facenet train (--data speakers.npz .*)", commands, re.MULTILINE)
    options = ["--max-steps", "15", "--evaluations", "1", "--accelerator", "cpu", "--output", "run"]
    assert train([*shlex.split(command), *options]) == 0
    assert "train on 640 rows of features of 40 identities" in capsys.readouterr().out
    figures = json.loads(Path("run/metrics.json").read_text())
    assert figures["eer"] < 0.3


def test_what_is_left_out_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recordings" / "Ann").mkdir(parents=True)
    for name, seconds in (("Ann/a", 1.0), ("Ann/b", 0.4), ("Ann/c", 0.2), ("alone", 1.0)):
        sound = voice(0, seconds, 0, 16_000)
        soundfile.write(f"recordings/{name}.wav", sound, 16_000, subtype="FLOAT")
    sound = voice(0, 1.0, 0, 16_000)
    sound[0] = np.nan
    soundfile.write("recordings/Ann/d.wav", sound, 16_000, subtype="FLOAT")
    Path("recordings/Ann/broken.wav").write_bytes(b"RIFF and no more")
    Path("recordings/Ann/notes.txt").touch()
    Path("recordings/Ann/.hidden").touch()
    assert speakers.main(["recordings", "speakers.npz", "--seconds", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert "3 pieces of 1 speakers" in out
    with np.load("speakers.npz") as file:
        assert file["names"].tolist() == ["Ann/a.wav", "Ann/a.wav", "Ann/d.wav"]
    skipped, counted = err.splitlines()
    assert "broken.wav" in skipped
    assert counted.startswith("left out of 7 files: ")
    assert sorted(counted.partition(": ")[2].split(", ")) == [
        "1 cannot be read",
        "1 in no speaker's folder",
        "1 in parts",
        "1 of other kinds",
        "2 shorter than 0.5 s",
        "with samples that are not finite",
    ]


def test_no_recordings_are_told(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no recordings of 2 s or more; put them in"):
        speakers.main([str(tmp_path), "speakers.npz"])
