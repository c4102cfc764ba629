"""Builds the network that a run's options describe."""

from __future__ import annotations

from typing import TypeVar

from facenet_ext._network_names import BUILT_IN, FOR_FEATURES, is_own
from facenet_ext.common.errors import InputError
from facenet_ext.common.text import printable
from facenet_ext.embedding.options import Options
from facenet_ext.models import (
    IRESNETS,
    PAPER,
    WCCN,
    Cohort,
    Committee,
    FisherVectors,
    Head,
    NormalizedNetwork,
    SmallNet,
    build_own,
    conv1d,
    conv2d,
    mlp,
)
from facenet_ext.models.registry import ENVIRONMENT, is_named

_T = TypeVar("_T", int | None, float)


def build_network(options: Options, shape: tuple[int, ...]) -> NormalizedNetwork | Committee:
    """Build the network that the options describe, or a committee of networks.

    Args:
        options: of the run.
        shape: of one example of the data: [C, H, W] for images, anything else for features.

    Raises:
        InputError: there is no such network, or it does not fit its input.
    """
    for name in ("aligned_size", "aligned_window", "aligned_x", "aligned_y"):
        if getattr(options.model, name) == ():
            raise InputError(f"`{name}` []: give one number, or one per member")
    members = [_build_member(options, shape, member) for member in range(options.model.members)]
    return members[0] if len(members) == 1 else Committee(members)


def build_head(options: Options, network: NormalizedNetwork | Committee) -> Head:
    """Build the layers behind a network that are fitted to the training, not learned.

    Args:
        options: of the run: ``--wccn``, ``--fisher`` and ``--cohort`` ask for one each.
        network: what they follow.

    Raises:
        InputError: Fisher vectors are of images, and these are none, or they are too small.
    """
    o, dim = options.model, network.embedding_dim
    fisher = None
    if o.fisher:
        try:
            fisher = FisherVectors(
                network.input_shape, o.fisher, mirror=options.flips, step=o.fisher_step
            )
        except ValueError as error:
            raise InputError(f"`fisher` {o.fisher}: {error}") from None
    wccn = WCCN(dim) if o.wccn else None
    cohort = Cohort(dim + o.fisher, o.cohort) if o.cohort else None
    return Head(wccn, fisher, cohort, dim)


def check_named(model: object, source: object, asked: str, option: str = "model") -> None:
    """Raise where a network is somebody's own, and nobody but a file has named it.

    A file of weights holds data alone. To build such a network its module must be imported, which
    runs what is in it, so a person has to say so.

    Args:
        model: the file's value of ``--model``.
        source: the function that made the network, as the file has it.
        asked: the file, for the message.
        option: the option by which a network is named, for the message.

    Raises:
        InputError: neither the program nor the environment names the network.
    """
    if model in BUILT_IN or (is_own(model) and is_named(str(model))):
        return
    name = source if is_own(source) else model
    if not is_own(name):
        raise InputError(f"{asked}: has a network of no known name ({printable(str(name)):.80})")
    has = f"{asked}: has a network of somebody's own, {printable(str(model))}"
    if ":" not in str(name):
        raise InputError(
            f"{has}, which nothing has registered; give `{option}` package.module:function, or "
            f"list the module that registers it in {ENVIRONMENT}"
        )
    raise InputError(
        f"{has}, and nothing is imported that you did not name; if you trust it, give `{option}` "
        f"{name}, or set {ENVIRONMENT}={name}"
    )


def _build_member(options: Options, shape: tuple[int, ...], member: int) -> NormalizedNetwork:
    o, images = options.model, len(shape) == 3
    if o.model in BUILT_IN and images == (o.model in FOR_FEATURES):
        kind = "images" if images else "features"
        fitting = [name for name in BUILT_IN if (name in FOR_FEATURES) != images]
        raise InputError(
            f"`model` {o.model}: does not embed {kind}; choose {', '.join(fitting[:-1])} or "
            f"{fitting[-1]}"
        )
    if o.model not in BUILT_IN:
        return _build_own(options, shape)
    if o.model == "mlp":
        return mlp(shape, o.embedding_dim, width=o.width, layers=len(o.stages), dropout=o.dropout)
    if o.model == "conv1d":
        return conv1d(shape, o.embedding_dim, width=o.width, stages=o.stages, dropout=o.dropout)
    if o.model == "conv2d":
        try:
            return conv2d(shape, o.embedding_dim, width=o.width, stages=o.stages, dropout=o.dropout)
        except ValueError as error:
            raise InputError(f"`model` conv2d: {error}") from None
    network = _build_for_images(options, shape[0], member)
    network.standardize = o.standardize
    return network


def _build_own(options: Options, shape: tuple[int, ...]) -> NormalizedNetwork:
    o, size = options.model, options.data.input_size
    return build_own(
        o.model,
        (shape[0], size, size) if len(shape) == 3 else shape,
        embedding_dim=o.embedding_dim,
        width=o.width,
        stages=o.stages,
        dropout=o.dropout,
        batch_norm=o.batch_norm,
        standardize=o.standardize,
        channels_last=o.channels_last,
    )


def _build_for_images(options: Options, channels: int, member: int) -> NormalizedNetwork:
    o, size = options.model, options.data.input_size
    if o.model in IRESNETS:
        return IRESNETS[o.model](
            o.embedding_dim, in_channels=channels, input_size=(size, size), dropout=o.dropout
        )
    if o.model in PAPER:
        return PAPER[o.model](
            o.embedding_dim,
            in_channels=channels,
            input_size=(size, size),
            batch_norm=o.batch_norm,
            dropout=o.dropout,
        )
    try:
        return SmallNet(
            channels,
            o.embedding_dim,
            input_size=size,
            width=o.width,
            stages=o.stages,
            dropout=o.dropout,
            aligned_size=_of_member(o.aligned_size, member),
            aligned_window=_of_member(o.aligned_window, member),
            aligned_center=(_of_member(o.aligned_x, member), _of_member(o.aligned_y, member)),
            straighten=o.straighten,
        )
    except ValueError as error:
        raise InputError(f"`stages`, `input_size`, `aligned_size`: {error}") from None


def _of_member(values: _T | tuple[_T, ...], member: int) -> _T:
    """Return an option's value for one member; members take several values in turn."""
    return values[member % len(values)] if isinstance(values, tuple) else values
