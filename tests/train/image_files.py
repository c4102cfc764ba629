"""Image sets in all formats, written by hand: by tarfile, zipfile, pyarrow and struct."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

MAGIC = 0xCED7230A


def pictures(count: int, size: int = 12) -> list[bytes]:
    """Encoded images, JPEG and PNG by turns."""
    made = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 255, (size, size), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, ("JPEG", "PNG")[number % 2])
        made.append(file.getvalue())
    return made


def ending(content: bytes) -> str:
    return ".png" if content.startswith(b"\x89PNG") else ".jpg"


def write_folder(
    root: Path, images: Sequence[bytes], labels: Sequence[int], name: str = "{row:04d}"
) -> Path:
    for row, (content, label) in enumerate(zip(images, labels, strict=True)):
        folder = root / f"P{label:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name.format(row=row)}{ending(content)}").write_bytes(content)
    return root


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_shards(
    root: Path, images: Sequence[bytes], labels: Sequence[int], count: int = 2
) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        with tarfile.open(root / f"shard-{number:03d}.tar", "w") as tar:
            rows = range(len(images) * number // count, len(images) * (number + 1) // count)
            for row in rows:
                add(tar, f"{row:06d}{ending(images[row])}", images[row])
                add(tar, f"{row:06d}.cls", str(labels[row]).encode())
    return root


def write_archive(path: Path, images: Sequence[bytes], labels: Sequence[int]) -> Path:
    """An archive with one folder in it, and its members in another order."""
    names = [
        f"faces/P{label:02d}/{row:04d}{ending(images[row])}" for row, label in enumerate(labels)
    ]
    order = [*reversed(range(len(images)))]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for row in order:
                file.writestr(names[row], images[row])
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
            for row in order:
                add(tar, names[row], images[row])
    return path


def write_parquet(
    path: Path, images: Sequence[bytes], labels: Sequence[int], names: bool = True
) -> Path:
    cells = [{"bytes": image, "path": f"{row:04d}.jpg"} for row, image in enumerate(images)]
    table = pyarrow.table({"image": cells, "label": list(labels)})
    if names:
        of_label = {"names": [f"P{label:02d}" for label in range(100)], "_type": "ClassLabel"}
        described = {"info": {"features": {"image": {"_type": "Image"}, "label": of_label}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(described)})
    pyarrow.parquet.write_table(table, path, row_group_size=3)
    return path


def record(label: float, image: bytes, key: int = 0) -> bytes:
    payload = struct.pack("<IfQQ", 0, label, key, 0) + image
    return struct.pack("<II", MAGIC, len(payload)) + payload + bytes(-len(payload) % 4)


def write_records(root: Path, images: Sequence[bytes], labels: Sequence[float]) -> Path:
    """Records without one for keys, as some sets are."""
    root.mkdir(parents=True, exist_ok=True)
    content, lines = b"", []
    for key, (image, label) in enumerate(zip(images, labels, strict=True)):
        lines.append(f"{key}\t{len(content)}\n")
        content += record(label, image, key)
    (root / "train.rec").write_bytes(content)
    (root / "train.idx").write_text("".join(lines))
    return root / "train.rec"
