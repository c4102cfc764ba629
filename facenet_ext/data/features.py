"""Reads precomputed features: an .npz of arrays 'features' and 'labels'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.common.text import comparable

__all__ = ["read_features", "read_labels", "read_names"]


def read_features(
    option: str, name: str, shape: tuple[int, ...] | None = None
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Read features and labels, as data only: nothing in the file is executed.

    Args:
        option: the argument that named the file, for messages.
        name: an .npz of arrays 'features' ([N, D] or [N, C, L], numbers) and 'labels' ([N],
            integers or strings).
        shape: the shape that a row must have; None for any.

    Returns:
        The features, float32, and the labels, strings as
        :func:`facenet_ext.common.text.comparable` returns them.

    Raises:
        InputError: the file is missing, damaged, or not of that kind.
    """
    where = f"`{option}` {name}"
    try:
        file = np.load(Path(name).expanduser(), allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise InputError(f"{where}: an array, not an .npz; save it with numpy.savez")
        with file:
            missing = {"features", "labels"} - set(file.files)
            if missing:
                raise InputError(
                    f"{where}: no array {' and '.join(map(repr, sorted(missing)))}, there are "
                    f"{', '.join(file.files) or 'none'}; "
                    "save it with numpy.savez(path, features=..., labels=...)"
                )
            features, labels = file["features"], file["labels"]
    except InputError:
        raise
    except Exception as error:  # errors of many kinds: damaged, encrypted, too large
        raise InputError(f"{where}: cannot be read ({error})") from None
    if not (isinstance(features, np.ndarray) and isinstance(labels, np.ndarray)):
        raise InputError(f"{where}: its entries are no arrays; save it with numpy.savez")
    if not (np.issubdtype(features.dtype, np.number) and not np.iscomplexobj(features)):
        raise InputError(f"{where}: features must be numbers, they are {features.dtype}")
    if features.ndim not in (2, 3) or 0 in features.shape:
        raise InputError(
            f"{where}: features must be [rows, numbers] or [rows, channels, length], "
            f"they are {list(features.shape)}"
        )
    if labels.dtype.kind not in "iuUS" or labels.shape != features.shape[:1]:
        raise InputError(
            f"{where}: labels must be {len(features)} integers or strings, one per row of "
            f"features; they are {list(labels.shape)} {labels.dtype}"
        )
    if labels.dtype.kind == "U":
        labels = np.array([comparable(name) for name in labels.tolist()])
    if shape is not None and features.shape[1:] != shape:
        raise InputError(
            f"{where}: a row of features must be {list(shape)} as in `data`, "
            f"it is {list(features.shape[1:])}"
        )
    features = np.ascontiguousarray(features, np.float32)
    finite = np.isfinite(features).reshape(len(features), -1).all(1)
    if not finite.all():
        raise InputError(
            f"{where}: row {int(np.argmin(finite))} of the features is not finite; leave it out"
        )
    return features, labels


def read_labels(option: str, name: str) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Read the labels, and the shape of a row of features, but not the features.

    Args:
        option: see :func:`read_features`.
        name: see there.

    Returns:
        The labels as the file has them, and the shape.

    Raises:
        InputError: see there.
    """
    try:
        with np.load(Path(name).expanduser(), allow_pickle=False) as file:
            labels = file["labels"]
            with file.zip.open("features.npy") as member:
                version = np.lib.format.read_magic(member)
                read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                    version, np.lib.format.read_array_header_2_0
                )
                shape, _, _ = read(member)
        if labels.dtype.kind in "iuUS" and labels.shape == shape[:1]:
            return labels, shape[1:]
    except Exception:  # errors of many kinds: read_features reads the whole file and says which
        pass
    features, labels = read_features(option, name)
    return labels, features.shape[1:]


def read_names(option: str, name: str, rows: int) -> list[str]:
    """Read what the rows of features are called, in the array 'names'.

    Args:
        option: see :func:`read_features`.
        name: see there.
        rows: how many there are.

    Returns:
        A name for each row, as :func:`facenet_ext.common.text.comparable` returns it. Rows of one
        name are pieces of one utterance.

    Raises:
        InputError: there are no names, or not one per row.
    """
    where = f"`{option}` {name}"
    try:
        with np.load(Path(name).expanduser(), allow_pickle=False) as file:
            names = file["names"] if "names" in file.files else None
    except Exception as error:  # errors of many kinds: damaged, of Python objects
        raise InputError(f"{where}: its names cannot be read ({error})") from None
    if names is None:
        raise InputError(
            f"{where}: no array 'names', which says what a list of trials calls each row; save it "
            "with numpy.savez(path, features=..., labels=..., names=...)"
        )
    if names.dtype.kind != "U" or names.shape != (rows,):
        raise InputError(
            f"{where}: names must be {rows} strings, one per row of features; they are "
            f"{list(names.shape)} {names.dtype}"
        )
    return [comparable(one) for one in names.tolist()]
