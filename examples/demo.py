"""From images to a model in use: trains, evaluates, verifies, identifies and clusters.

``python -m examples.demo`` does so with scikit-learn's handwritten digits, whose classes stand for
people: the model learns from six of them, turned and mirrored, and is used on the four others. With
a folder or archive of faces (``train/`` and ``val/``) it does the same with these. It prints every
command as one would type it. After an interruption the same command continues.
"""

from __future__ import annotations

import argparse
import functools
import shlex
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from facenet_ext.common.interrupts import loading

_PROG = "python -m examples.demo"
with loading(_PROG):
    from PIL import Image
    from rich.console import Console

    from facenet_ext.cli import command_line
    from facenet_ext.common.console import make_console
    from facenet_ext.data.image_list import list_identities
    from facenet_ext.data.sources import Source, find
    from facenet_ext.embedding.options import DataOptions
    from facenet_ext.evaluation import held_out

_GALLERY = 10  # images that each identity of the gallery has


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit status."""
    work = functools.partial(_main, argv)
    return command_line.run(_PROG, work, stopped="the same command goes on")


def _main(argv: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(prog=_PROG, description=__doc__, allow_abbrev=False)
    parser.add_argument("data", nargs="?", help="faces; by default handwritten digits")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder to write")
    parser.add_argument("--train", default="", help="more options for 'facenet train'")
    parser.add_argument("--pictures", type=Path, help="folder for small copies of some pictures")
    arguments = parser.parse_args(argv)
    output: Path = arguments.output
    data = arguments.data or str(write_digits(output / "digits"))
    source = find(data)
    run = output / "run"
    options = [] if arguments.data else ["--preset", "digits", "--image-size", "8"]
    if not (run / "metrics.json").is_file():
        last = run / "checkpoints" / "last.ckpt"
        begun = ["--resume", last]
        if not last.is_file():
            shutil.rmtree(run, ignore_errors=True)  # it was stopped before its first checkpoint
            begun = ["--data", data, "--output", run, *options]
        facenet("train", *begun, *shlex.split(arguments.train))
    facenet("evaluate", "--checkpoint", run, "--all-pairs", "--far", "0.01")
    people = unseen(source, run, output)
    one, another = two_identities(people)
    use = ["--checkpoint", run]
    facenet("verify", one[0], one[1], *use, allowed=(0, 1))
    facenet("verify", one[0], another[0], *use, allowed=(0, 1))
    gallery, probes = deal_out(people, output)
    facenet("embed", gallery, "--output", output / "gallery_embeddings", *use)
    identified = ["--output", output / "identified", *use]
    facenet("identify", output / "gallery_embeddings", probes, *identified, allowed=(0, 1))
    sheets = ["--output", output / "clusters", "--sheet-images", 16]
    facenet("cluster", people, *sheets, *use, allowed=(0, 1))
    if arguments.pictures is not None:
        shrink(run / "roc.png", arguments.pictures / "demo_roc.png")
        shrink(run / "mistakes.png", arguments.pictures / "demo_mistakes.png")
        sheet = output / "clusters" / "sheets" / "cluster-0000.png"
        shrink(sheet, arguments.pictures / "demo_cluster.png")
    make_console().print(f"\nThe report is {run / 'evaluation' / 'report.html'}.", soft_wrap=True)


def facenet(*arguments: object, allowed: Sequence[int] = (0,)) -> None:
    """Print a command line and run it."""
    given = [str(argument) for argument in arguments]
    make_console().print(f"\n$ facenet {shlex.join(given)}", style="bold", soft_wrap=True)
    # In a session of its own it gets Ctrl-C once, from this process, which then waits for its end:
    # training finishes its step and saves a checkpoint.
    process = subprocess.Popen(
        [sys.executable, "-m", "facenet_ext.cli", *given], start_new_session=True
    )
    before = signal.signal(signal.SIGINT, lambda *_: process.send_signal(signal.SIGINT))
    try:
        status = process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    if status not in allowed:
        sys.exit(status)


def shrink(picture: Path, to: Path, width: int = 560) -> None:
    """Write a small copy of a picture."""
    with Image.open(picture) as image:
        height = round(image.height * width / image.width)
        small = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    small.quantize(256).save(to, optimize=True)


def write_digits(root: Path) -> Path:
    """Write the digits as image files: six to learn from, in eight views each, and four others."""
    if (root / "val").is_dir():
        return root
    with loading(_PROG):
        from facenet_ext.train.data import load

    data = load(DataOptions(data="digits"), Console(quiet=True))
    for part, examples in (("train", data.train), ("unfinished", data.val)):
        for number, (image, label) in enumerate(zip(examples.values, examples.labels, strict=True)):
            folder = root / part / f"class_{int(label):02d}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(folder / f"{number:05d}.png")
    (root / "unfinished").rename(root / "val")
    return root


def unseen(source: Source, run: Path, output: Path) -> Path:
    """Return a folder of people that a run has not trained on; links are made for held-out ones."""
    if source.val is not None:
        return source.val
    theirs, _ = list_identities(source.train).divide(held_out.read_names(run) or set())
    people = output / "unseen"
    people.mkdir(parents=True, exist_ok=True)
    for folder in {path.parent for path in theirs.paths}:
        if not (people / folder.name).is_symlink():
            (people / folder.name).symlink_to(folder.resolve())
    return people


def two_identities(people: Path) -> tuple[list[Path], list[Path]]:
    """Return the images of two identities; the first has two or more."""
    images: dict[str, list[Path]] = {}
    listed = list_identities(people)
    for name, path in zip(listed.people, listed.paths, strict=True):
        images.setdefault(name, []).append(path)
    several = next(name for name, paths in images.items() if len(paths) > 1)
    return images[several], next(paths for name, paths in images.items() if name != several)


def deal_out(people: Path, output: Path) -> tuple[Path, Path]:
    """Link half of each identity's images, at most _GALLERY, into a gallery; others are probes.

    Every fourth identity is left out of the gallery: a search should call its probes unknown.
    """
    gallery, probes = output / "gallery", output / "probes"
    counts: dict[str, int] = {}
    images = list_identities(people)
    total = Counter(images.people)
    for name, path in zip(images.people, images.paths, strict=True):
        place = counts[name] = counts.get(name, -1) + 1
        enrolled = min(_GALLERY, total[name] // 2)
        known = list(total).index(name) % 4 != 3
        if place >= 2 * _GALLERY or (place < enrolled and not known):
            continue
        target = (gallery if place < enrolled else probes) / name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(path.resolve())
    return gallery, probes


if __name__ == "__main__":
    sys.exit(main())
