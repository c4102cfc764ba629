"""``facenet align``: from photos to faces."""

from __future__ import annotations

import datetime
import heapq
import json
import time
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from facenet_ext.commands.options import AlignOptions
from facenet_ext.commands.recognition_pictures import draw_sheet
from facenet_ext.commands.report_page import Picture, Section, render
from facenet_ext.common.console import make_console
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError, refusing
from facenet_ext.common.files import write_text, writing
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import counted
from facenet_ext.data.image_list import list_tree, tell_passed_over
from facenet_ext.data.images import read_image
from facenet_ext.faces import (
    AlignedFace,
    AlignedFaces,
    FaceChoice,
    FaceCut,
    align_photos,
    load_detector,
    read_faces,
)
from facenet_ext.faces.photos import LEFT_OUT

_SHOWN = 48
_REPORT = "report.html"


def execute(options: AlignOptions) -> int:
    """Do what the command line says."""
    if not options.photos:
        raise InputError("photos: expected a folder or a photo, got an empty name")
    if not options.output:
        raise InputError("`output`: expected a folder, got an empty name")
    with refusing():
        cut = FaceCut(options.margin, options.size, options.detector)
    output = Path(options.output)
    photos = list_tree(Path(options.photos), output)
    console = make_console(stderr=True)
    tell_passed_over(photos, console)
    detector = load_detector(options.detector, options.min_face_size)
    choice = FaceChoice(
        options.faces, options.min_face_size, options.min_score, options.without_face
    )
    start = time.perf_counter()
    with Counting("finding faces", console) as bar:
        aligned = align_photos(
            photos, output, detector, cut, choice, progress=bar, group=everyone()
        )
    if not is_first():
        return 0
    seconds = time.perf_counter() - start
    now = aligned.photos - bar.begun if bar.begun is not None else 0  # the others were done before
    with writing(output):
        write_text(output / _REPORT, _report(aligned, cut, options.photos))
    figures = {
        "output": str(output),
        "photos": aligned.photos,
        "faces": aligned.faces,
        "faceless": aligned.faceless,
        "unreadable": aligned.unreadable,
        "cut": str(cut),
        "photos_per_second": now / seconds if now else None,
    }
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        out = make_console()
        rate = f", {now / seconds:,.1f} photos/s" if now else ", all of it before"
        out.print(f"{_verdict(aligned)} in {output}, cut {cut}{rate}", soft_wrap=True)
        if aligned.faceless or aligned.unreadable:
            out.print(f"{_left_out(aligned)}: {output / LEFT_OUT}", soft_wrap=True)
        out.print(f"contact sheets: {output / _REPORT}", soft_wrap=True)
    return 0 if aligned.faces else 1


def _verdict(aligned: AlignedFaces) -> str:
    return f"{counted(aligned.faces, 'face')} of {counted(aligned.photos, 'photo')}"


def _left_out(aligned: AlignedFaces) -> str:
    return (
        f"no face in {counted(aligned.faceless, 'photo')}, "
        f"{counted(aligned.unreadable, 'photo')} cannot be read"
    )


def _report(aligned: AlignedFaces, cut: FaceCut, photos: str) -> str:
    """Return a page with contact sheets: of all faces a sample, and what is most probably wrong."""
    rows = read_faces(aligned.folder)
    step = max(1, aligned.faces // _SHOWN)
    sample: list[AlignedFace] = []
    doubtful: list[tuple[float, int, AlignedFace]] = []  # a heap, the surest first
    for number, row in enumerate(rows):
        if number % step == 0 and len(sample) < _SHOWN:
            sample.append(row)
        heapq.heappush(doubtful, (-row.face.score, -number, row))
        if len(doubtful) > _SHOWN:
            heapq.heappop(doubtful)
    least = [row for *_, row in sorted(doubtful, reverse=True)]
    sections = [
        Section(
            "What was done",
            facts=[
                ("photos", str(Path(photos).resolve())),
                ("faces", str(aligned.folder.resolve())),
                ("cut", str(cut)),
                ("left out", _left_out(aligned)),
            ],
        )
    ]
    if sample:
        sections += [
            Section(
                "A sample",
                "Every face should be whole, upright and in the middle.",
                pictures=[
                    Picture("faces", _sheet(aligned.folder, sample, "file and score"), photo=True)
                ],
            ),
            Section(
                "The least sure",
                "What is no face has a low score. A higher --min-score leaves it out.",
                pictures=[
                    Picture(
                        "faces", _sheet(aligned.folder, least, "the lowest score first"), photo=True
                    )
                ],
            ),
        ]
    date = f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %z}"
    return render("Faces cut out of photos", date, [f"{_verdict(aligned)}."], [], sections)


def _sheet(folder: Path, faces: Sequence[AlignedFace], title: str) -> Figure:
    """Draw faces, each with its file and its score."""
    images = [read_image(folder / row.image, 112, 3).permute(1, 2, 0).numpy() for row in faces]
    scores = [f"{row.face.score:.3f}" for row in faces]
    return draw_sheet(images, [row.image for row in faces], title, notes=scores)
