"""Turns folders of recordings into features for ``facenet train``: who is speaking?

    python -m examples.speakers recordings speakers.npz
    facenet train --data speakers.npz --model conv1d --width 64 --stages '[1,1,1]'

``recordings`` is ``root/<speaker>/<anything>.wav`` (or .flac, .ogg: what libsndfile reads), in
folders below that too, as LibriSpeech has them. Each recording is cut into pieces of ``--seconds``,
each of which becomes a log-mel spectrogram; what is left at the end of a recording is dropped.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections import Counter
from pathlib import Path

from facenet_ext.common.interrupts import loading

_PROG = "python -m examples.speakers"
with loading(_PROG):
    import numpy as np
    import soundfile
    import torch
    from numpy.typing import NDArray
    from scipy.signal import resample_poly
    from torch import Tensor

    from facenet_ext.cli.command_line import run

RATE = 16_000
FRAME = 400  # 25 ms
HOP = 160  # 10 ms
MELS = 40


def mel_filters(mels: int = MELS, bins: int = FRAME // 2 + 1, rate: int = RATE) -> Tensor:
    """Return triangular filters that are evenly spaced on the mel scale: [mels, bins].

    Example:
        >>> filters = mel_filters()
        >>> filters.shape, bool((filters.sum(1) > 0).all())
        (torch.Size([40, 201]), True)

    Source: O'Shaughnessy, *Speech Communication*, 1987: mel = 2595 log10(1 + f / 700).
    """
    highest = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, mels + 2) / 2595) - 1)
    frequencies = torch.linspace(0, rate / 2, bins)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def log_mel(samples: Tensor) -> Tensor:
    """Return the log-mel spectrogram of samples: [..., T] to [..., mels, frames].

    The mean over time is subtracted from each channel, which removes most of a microphone's effect.

    Example:
        >>> log_mel(torch.randn(2, RATE)).shape
        torch.Size([2, 40, 101])
    """
    spectrum = torch.stft(samples, FRAME, HOP, window=torch.hann_window(FRAME), return_complex=True)
    mel = (mel_filters() @ spectrum.abs().square() + 1e-6).log()
    return mel - mel.mean(-1, keepdim=True)


def read(path: Path) -> Tensor:
    """Return a recording as one channel at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = torch.from_numpy(samples).mean(1)
    if rate == RATE or len(mono) == 0:
        return mono
    common = math.gcd(RATE, rate)
    return torch.from_numpy(resample_poly(mono.numpy(), RATE // common, rate // common))


def features(
    root: Path, seconds: float
) -> tuple[NDArray[np.float32], NDArray[np.str_], NDArray[np.str_]]:
    """Return the spectrograms of all pieces [N, mels, frames], their speakers and recordings [N].

    A recording is called by its path under the root, as lists of trials have it. Standard error
    says which files are left out, and why.
    """
    spectrograms, speakers, recordings = [], [], []
    left_out: Counter[str] = Counter()
    size = round(seconds * RATE)
    formats = {f".{name.lower()}" for name in soundfile.available_formats()} - {".raw"} | {".opus"}
    files = [path for path in sorted(root.rglob("[!.]*")) if path.is_file()]
    for path in files:
        if path.suffix.lower() not in formats:
            left_out["of other kinds"] += 1
            continue
        if path.parent == root:
            left_out["in no speaker's folder"] += 1
            continue
        try:
            samples = read(path)
        except soundfile.LibsndfileError as error:
            print(f"skipped: {error}", file=sys.stderr)
            left_out["cannot be read"] += 1
            continue
        pieces = samples[: len(samples) // size * size].reshape(-1, size)
        finite = pieces[pieces.isfinite().all(1)]
        if len(pieces) == 0:
            left_out[f"shorter than {seconds:g} s"] += 1
        elif len(finite) < len(pieces):
            left_out["in parts, with samples that are not finite"] += 1
        if len(finite):
            spectrograms.append(log_mel(finite))
            name = path.relative_to(root)
            speakers += [name.parts[0]] * len(finite)
            recordings += [name.as_posix()] * len(finite)
    if left_out:
        told = ", ".join(f"{count:,} {what}" for what, count in left_out.items())
        print(f"left out of {len(files):,} files: {told}", file=sys.stderr)
    if not spectrograms:
        raise SystemExit(
            f"{root}: no recordings of {seconds:g} s or more; put them in {root}/<speaker>/"
        )
    return torch.cat(spectrograms).numpy(), np.array(speakers), np.array(recordings)


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    return run(_PROG, functools.partial(_main, argv))


def _main(argv: list[str] | None) -> None:
    description = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog=_PROG, description=description, allow_abbrev=False)
    parser.add_argument("recordings", type=Path, help="root/<speaker>/<recording>")
    parser.add_argument("output", type=Path, help="the .npz to write")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a piece")
    arguments = parser.parse_args(argv)
    if not 0.1 <= arguments.seconds < math.inf:
        parser.error(f"--seconds: expected at least 0.1, got {arguments.seconds}")
    output: Path = arguments.output
    if output.suffix != ".npz" or not output.parent.is_dir():
        parser.error(f"output: expected an .npz in a folder that is there, got {output}")
    spectrograms, speakers, recordings = features(arguments.recordings, arguments.seconds)
    np.savez(output, features=spectrograms, labels=speakers, names=recordings)
    print(
        f"{output}: {len(speakers):,} pieces of {len(set(speakers))} speakers, "
        f"each {spectrograms.shape[1]} x {spectrograms.shape[2]}"
    )


if __name__ == "__main__":
    sys.exit(main())
