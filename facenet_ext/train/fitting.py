"""Fits options that were not given to the data, and refuses at once given ones that cannot be.

One error names all given options that the data does not allow. The check decodes no image and does
not import Lightning. It imports torch only to check an option that needs it. So an error comes
within a second, not after half a minute.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from facenet_ext._network_names import BUILT_IN
from facenet_ext.common.errors import InputError
from facenet_ext.common.launch import may_restart
from facenet_ext.common.text import counted
from facenet_ext.data.features import read_labels
from facenet_ext.embedding.folders import CONFIG, run_folder, run_of
from facenet_ext.embedding.options import (
    AugmentationOptions,
    DataOptions,
    Options,
    is_features,
    read_options,
    spelled,
)
from facenet_ext.evaluation import held_out

_DIGITS = (178, 182, 177, 183, 181, 182)
"""Images of each of scikit-learn's digits that are trained on, in eight views each."""

_T = TypeVar("_T")
_NETWORK = {"preset", "model", "stages", "input_size", "aligned_size", "aligned_window", "channels"}
"""Options by which the network may not fit its input."""


class Changes:
    """Changes to options that the data makes necessary, and the reasons.

    Args:
        options: of the run.
        given: the names of the options that a person gave. To change one of them is an error.
    """

    def __init__(self, options: Options, given: Collection[str] = ()) -> None:
        self.before = options.flat()
        self.values = options.flat()
        self.given = given
        self._why: dict[str, str] = {}

    def set(self, name: str, value: Any, why: str) -> None:
        """Change an option to a value; ``why`` says what is wrong with another value."""
        if self.values[name] != value:
            self.values[name] = value
            self._why.setdefault(name, why)

    def changed(self, *, given: bool) -> dict[str, Any]:
        """Return the changed options that a person gave, or those that nobody gave, by name."""
        return {n: self.values[n] for n in self._why if (n in self.given) == given}

    def problems(self) -> list[str]:
        """Return what is wrong with each of the changed options that a person gave."""
        wrong = self.changed(given=True)
        return [f"{spelled(name, self.before[name])}: {self._why[name]}" for name in wrong]


class Fitted(NamedTuple):
    """Options that suit the data.

    Attributes:
        options: of the run.
        told: what was fitted, in a line; None where nothing was.
    """

    options: Options
    told: str | None


def fit(
    options: Options,
    given: Collection[str] = (),
    *,
    command: Sequence[str] = (),
    checkpoint: Path | None = None,
) -> Fitted:
    """Fit the options that nobody gave to the data.

    Args:
        options: of the run.
        given: the names of the options that a person gave. They are not changed.
        command: the command line as it was given; the error shows a corrected one.
        checkpoint: the checkpoint from which a run continues, with its split; None starts one.

    Returns:
        The options, and a line that tells what was fitted.

    Raises:
        InputError: the data cannot be read, or options that were given do not suit it or one
            another. The message names all of them, and, where it is known, a command that works.
    """
    changes = Changes(options, given)
    problems: list[str] = []

    def tell(check: Callable[[], _T]) -> _T | None:
        try:
            return check()
        except InputError as error:
            problems.append(str(error))
            return None

    tell(lambda: _check_options(options))
    tell(lambda: _check_output(options, checkpoint))
    examples = tell(lambda: _count(options.data, split_of(options, checkpoint, given)))
    if examples is not None:
        shape, train, val = examples
        told = tell(lambda: _fit_to_data(options.data, train, val, changes))
        if is_features(options.data.data):
            tell(lambda: check_features(options, shape))
        tell(lambda: _check_network(options, given, shape, checkpoint))
    wrong = changes.changed(given=True)
    if problems or wrong:
        works = f"; this works: {_corrected(command, wrong)}" if command and not problems else ""
        raise InputError("; ".join([*problems, *changes.problems()]) + works)
    free = changes.changed(given=False)
    if not free:
        return Fitted(options, None)
    shown = " ".join(spelled(name, value) for name, value in free.items())
    return Fitted(Options.from_flat(changes.values), f"fitted to {told}: {shown}")


def split_of(options: Options, checkpoint: Path | None, given: Collection[str]) -> Path | None:
    """Return the folder of the run whose split is used again; None where a new split is made.

    A model that learns from another one on the same data holds out the same people: the other one
    has learned from all that are left.

    Args:
        options: of the run.
        checkpoint: the checkpoint from which it continues, or None.
        given: the names of the options that a person gave.

    Raises:
        InputError: ``--distil`` names no run.
    """
    distil = options.distillation.distil
    if checkpoint is None and distil is not None:
        run = run_of(distil, "distil")
        same = read_options(run / CONFIG).data.data == options.data.data
        return run if same and "held_out" not in given else None
    return held_out.kept_by(checkpoint, given)


def fit_batches(changes: Changes, sizes: Collection[int], people: str, images: str) -> str:
    """Fit the shape of a batch to the identities to train on.

    Args:
        changes: of the run's options.
        sizes: the number of images of each identity.
        people: the word for identities in messages, "people" for instance.
        images: the word for their images.

    Returns:
        What it was fitted to, in words.
    """
    values, total = changes.values, len(sizes)

    def having(least: int) -> int:
        return sum(size >= least for size in sizes)

    least = 2 if having(2) >= 2 else 1
    if having(values["min_images"]) < 2:
        able = having(values["min_images"])
        why = f"of {total} {people} to train on {able} have that many {images}"
        changes.set("min_images", least, why)
    least = values["min_images"]
    able, others = having(least), total - having(least)
    some = counted(least, images.removesuffix("s"))
    why = f"of {total} {people} to train on {able} have {some} or more"
    changes.set("identities", min(values["identities"], able), why)
    if values["negatives"] and values["batch_size"] is not None:
        if "batch_size" in changes.given or "negatives" not in changes.given:
            why = f"`batch_size` {values['batch_size']} says how many there are; give one of them"
            changes.set("negatives", 0, why)
        else:
            changes.set("batch_size", None, f"`negatives` {values['negatives']} decides the size")
    why = f"of {total} {people} to train on {others} have fewer than {some}"
    changes.set("negatives", min(values["negatives"], others), why)
    if values["batch_size"] is not None and values["repeat"]:
        _fit_batch_size(changes, images)
    return f"{able} {people} with {some} or more"


def _fit_batch_size(changes: Changes, images: str) -> None:
    """Fit the identities' images into ``batch_size`` if that was given, else enlarge it."""
    values = changes.values
    names = ("identities", "images_per_identity")
    for name, other in (names, names[::-1]):
        if "batch_size" in changes.given and name not in changes.given:
            most = max(2, values["batch_size"] // values[other])
            why = f"`batch_size` {values['batch_size']} has no room for them"
            changes.set(name, min(values[name], most), why)
    shown = values["identities"] * values["images_per_identity"]
    why = (
        f"{values['identities']} identities with {values['images_per_identity']} {images} each "
        f"are {shown} already"
    )
    changes.set("batch_size", max(values["batch_size"], shown), why)


def _fit_to_data(
    data: DataOptions, train: Counter[Any], val: Counter[Any] | None, changes: Changes
) -> str:
    """Fit the split and the batches, and return what they were fitted to, in words."""
    people, images = ("identities", "rows") if is_features(data.data) else ("people", "images")
    if data.data == "digits":
        people = "digits"
    sizes = list(train.values())
    if val is None:
        sizes = [train[name] for name in held_out.in_order(train)]
        number = _held_out_number(data, sizes, changes, people, images)
        sizes = sizes[number:]
    sizes *= len(data.speeds)
    if len(sizes) < 2:
        raise InputError(
            f"`data` {data.data}: fewer than two {people} are left to train on; give more, or "
            "fewer to verify on"
        )
    return fit_batches(changes, sizes, people, images)


def _held_out_number(
    data: DataOptions, sizes: Sequence[int], changes: Changes, people: str, images: str
) -> int:
    """Return how many of the first identities to hold out; ``sizes`` counts the images of each."""
    total = len(sizes)
    wanted = held_out.held_out_count(total, data.held_out)
    enough = held_out.enough_pairs(sizes)
    possible = [
        number
        for number in range(2, total - 1)
        if (number <= max(2, total // 2) or number == wanted) and enough[number]
    ]
    if not possible:
        raise InputError(
            f"`data` {data.data}: too few {people} or {images} ({total} and {sum(sizes)}) to train "
            f"on some {people} and to verify others, whose {images} must make 10 pairs of the same "
            "and 10 of different identities; give more, or others to verify on (`val`)"
        )
    # The wanted number if that is possible. If not, the next larger one that is possible, or else
    # the next smaller one.
    number = min(possible, key=lambda number: (number < wanted, abs(number - wanted)))
    left = "too few to verify on" if number > wanted else "which leaves too few to train on"
    why = f"that is {wanted} of the {total} {people}, {left}"
    if number != wanted:
        changes.set("held_out", _share(number, total), why)
    return number


def _share(number: int, total: int) -> float:
    """Return the share with the fewest digits that holds out this number."""
    shares = (round(number / total, digits) for digits in range(1, 17))
    return next(s for s in shares if 0 < s < 1 and held_out.held_out_count(total, s) == number)


def _count(
    data: DataOptions, run: Path | None
) -> tuple[tuple[int, ...], Counter[Any], Counter[Any] | None]:
    """Return the shape of an example, and the number of examples of each identity.

    The first numbers are of identities to train on, the second of those to verify on. The second
    are None where a share of the first is to be held out.
    """
    if data.data == "digits":
        return (data.channels, 8, 8), Counter(dict(enumerate(_DIGITS * 8))), Counter()
    if not is_features(data.data):
        split = held_out.split(data, run)
        train, val = (Counter(images.labels.tolist()) for images in (split.train, split.val))
        size = (data.channels, data.image_size, data.image_size)
        return (size, train + val, None) if split.by_share else (size, train, val)
    labels, shape = read_labels("data", data.data)
    if data.val is not None:
        return shape, Counter(labels.tolist()), Counter(read_labels("val", data.val)[0].tolist())
    rows, by_share = held_out.split_labels(labels, data.held_out, run)
    train, val = Counter(labels[~rows].tolist()), Counter(labels[rows].tolist())
    return (shape, train + val, None) if by_share else (shape, train, val)


def _check_options(options: Options) -> None:
    """Raise where options are wrong whatever the data holds."""
    data, problems = options.data, []
    if not data.data:
        problems.append("`data` '': an empty name; give 'digits', a folder, an archive or an .npz")
    for name in ("val", "pairs"):
        given = getattr(data, name)
        if given is not None and data.data == "digits":
            problems.append(f"`{name}` {given}: the digits have their own split; leave it out")
    if options.run.sync_batch_norm and options.batch.micro_batch:
        problems.append(
            "`sync_batch_norm` and `micro_batch`: with micro-batches, batch normalisation sees one "
            "of them at a time; leave one of the two out"
        )
    if options.run.sync_batch_norm and options.run.activation_checkpointing:
        problems.append(
            "`sync_batch_norm` and `activation_checkpointing`: the processes would have to meet "
            "again in the backward; leave one of the two out"
        )
    if is_features(data.data):
        if data.pairs is not None:
            problems.append(f"`pairs` {data.pairs}: for images; features have all their pairs")
    elif data.speeds != (1.0,):
        wrong = spelled("speeds", data.speeds)
        problems.append(f"{wrong}: for spectrograms in an .npz; leave it out")
    if problems:
        raise InputError("; ".join(problems))


def check_features(options: Options, shape: tuple[int, ...]) -> None:
    """Raise where features are to be changed, and changes of that kind are not for their shape.

    Args:
        options: of the run.
        shape: of a row: [bands, length] of sequences, which may run backwards and at other speeds.
    """
    wrong = {
        field.name: value
        for field in dataclasses.fields(AugmentationOptions)
        if (value := getattr(options.augmentation, field.name)) != field.default
    }
    if options.data.speeds != (1.0,):
        wrong["speeds"] = options.data.speeds
    if len(shape) == 2:
        wrong = {name: wrong[name] for name in wrong if name not in ("flip", "speeds")}
    if wrong:
        shown = " ".join(spelled(name, value) for name, value in wrong.items())
        raise InputError(
            f"{shown}: features are not augmented as images are, nor rows of {list(shape)} as "
            "spectrograms, [bands, length], are; leave it out"
        )


def _check_output(options: Options, checkpoint: Path | None) -> None:
    """Raise where the run's folder is taken, or cannot be made."""
    if may_restart() and options.run.output is None and checkpoint is None:
        raise InputError(
            "`output`: give a folder, in which a run that torchrun starts again finds itself"
        )
    folder = run_folder(options.run.output, options.data.data, checkpoint)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise InputError(f"`output` {folder}: cannot be written to ({there} is not a folder)")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"`output` {folder}: cannot be written to (no permission for {there})")


def _check_network(
    options: Options, given: Collection[str], shape: tuple[int, ...], checkpoint: Path | None
) -> None:
    """Raise where options of the network were given and it does not fit its input.

    A run that continues knows its own network by its files alone. Somebody has to name it again.
    """
    own = options.model.model not in BUILT_IN
    if _NETWORK.isdisjoint(given) and not own:
        return
    import torch

    from facenet_ext.embedding.networks import build_network, check_named

    if checkpoint is not None and "model" not in given:
        check_named(options.model.model, options.model.model, f"`resume` {checkpoint}")
    with nullcontext() if own else torch.device("meta"):
        build_network(options, shape)


def _corrected(command: Sequence[str], options: dict[str, Any]) -> str:
    """Return a command line in which these options have these values."""
    new = {name: spelled(name, value).split(" ", 1) for name, value in options.items()}
    kept, tokens = [], iter(command)
    for token in tokens:
        option, equals, _ = token.partition("=")
        if option not in {option for option, _ in new.values()}:
            kept.append(token)
        elif not equals:
            next(tokens, None)  # the value of a dropped option
    return shlex.join([*kept, *(part for parts in new.values() for part in parts)])
