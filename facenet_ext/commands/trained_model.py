"""What the commands that use a trained model share: which one, and embeddings made with it."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from typing import NamedTuple

from facenet_ext._defaults import DEFAULT_DETECTOR
from facenet_ext.commands.devices import find_device
from facenet_ext.commands.options import CheckpointOptions, PhotoOptions, ThresholdOptions
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.counting import Counting
from facenet_ext.common.errors import InputError
from facenet_ext.common.launch import is_first
from facenet_ext.common.processes import everyone
from facenet_ext.common.text import counted
from facenet_ext.data.image_list import tell_passed_over
from facenet_ext.data.listing import list_images
from facenet_ext.data.unpacking import in_cache
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.folders import latest_run
from facenet_ext.embedding.loading import checkpoint_path, file_hash, load_embedder, matched_by
from facenet_ext.embedding.operating_points import OperatingPoints, find_operating_points
from facenet_ext.embedding.suitability import (
    are_cut,
    warn_of_cut,
    warn_of_images,
    warn_of_threshold,
    warn_of_training,
)
from facenet_ext.faces import FaceCut, align_photos, load_detector, read_faces
from facenet_ext.faces.photos import LEFT_OUT
from facenet_ext.recognition import (
    ImageList,
    ModelName,
    StoredEmbeddings,
    embed_images,
    read_embeddings,
)
from facenet_ext.recognition.embedding import UNREADABLE
from facenet_ext.recognition.store import FORMAT, STORE


class Model(NamedTuple):
    """A trained model, ready to embed.

    Attributes:
        path: of the checkpoint.
        module: with its weights.
        name: what embeddings made by it are stored under.
    """

    path: Path
    module: Embedder
    name: ModelName


def load_model(options: CheckpointOptions, warnings: Warnings, *, features: bool = False) -> Model:
    """Load the model that the options name, and warn where it is barely trained.

    Args:
        options: of the command.
        warnings: to add to.
        features: whether a model that embeds features is accepted too.

    Raises:
        InputError: there is none, or its file is damaged or foreign, or embeds no images.
    """
    path = _checkpoint(options)
    module = load_embedder(path, options.model).to(find_device(options.device))
    if not (module.images or features):
        raise InputError(
            f"{path}: embeds features, not images, and this command needs images; give with "
            "--checkpoint a run on images (facenet train verifies features itself, also others "
            "with --val)"
        )
    warnings.add(*warn_of_training(module.provenance, path))
    network = module.options.model.model
    name = ModelName(network, file_hash(path), options.views, module.matches)
    return Model(path, module, name)


def _checkpoint(options: CheckpointOptions) -> Path:
    if options.checkpoint is not None:
        return checkpoint_path(options.checkpoint)
    latest = latest_run()
    if latest is None:
        raise InputError("--checkpoint: no run in runs/; give a run's folder or a .ckpt file")
    return checkpoint_path(str(latest))


class Source(NamedTuple):
    """The embeddings of a folder.

    Attributes:
        stored: the embeddings.
        images: the images that were embedded; None where the folder itself has embeddings.
    """

    stored: StoredEmbeddings
    images: ImageList | None


def embed_or_read(
    options: PhotoOptions, warnings: Warnings, *sources: str, leave_out: Path | None = None
) -> list[Source]:
    """Read folders of embeddings, or embed folders of images, or single images.

    What is embedded is kept in the cache: the second time, it is only read.

    Args:
        options: of the command.
        warnings: gets a warning for what the model cannot judge. Its console shows the progress.
        sources: the folders or images.
        leave_out: a folder whose images do not count, wherever it lies.

    Raises:
        InputError: a source is none of these.
    """
    model: Model | None = None
    given = []
    for name in sources:
        if not name:
            raise InputError("expected a folder or an image, got an empty name")
        source = Path(name)
        if (source / STORE).is_file():
            given.append(Source(read_embeddings(source), None))
            continue
        images = list_images(name, leave_out)
        model = model or load_model(options, warnings)
        images = cut_faces(options, images, model, warnings)
        given.append(Source(embed_list(images, model, options.batch, warnings), images))
    return given


def cut_faces(
    options: PhotoOptions, images: ImageList, model: Model, warnings: Warnings
) -> ImageList:
    """Return the images to embed: with ``--align`` the faces in photos, else the images themselves.

    The faces are cut as those that the model was trained on, into the cache: the second time they
    are there already. Images that are such faces are left as they are.

    Args:
        options: of the command.
        images: the photos, or images of faces.
        model: that is to embed them.
        warnings: to add to where the model does not say how its faces were cut; on their console
            progress is shown.

    Raises:
        InputError: no photo has a face, or the options contradict each other.
    """
    if not options.align and options.detector != DEFAULT_DETECTOR:
        raise InputError(f"`detector` {options.detector}: give `align` with it, or leave it out")
    if not options.align or are_cut(images):
        return images
    console = warnings.console
    tell_passed_over(images, console)
    cut = model.module.provenance.cut
    if cut is None:
        cut = FaceCut()
        warnings.add(
            "the model does not say how the faces that it was trained on were cut: those of the "
            f"photos are cut {cut}, as data sets for face recognition are"
        )
    if cut.margin is not None and cut.detector != options.detector:
        raise InputError(
            f"`detector` {options.detector}: the faces that the model was trained on were cut "
            f"{cut}; give `detector` {cut.detector}"
        )
    cut = dataclasses.replace(cut, detector=options.detector)
    folder = in_cache("faces", f"{cut!r} {images.root.resolve()} {images.fingerprint}")
    with Counting("finding faces", console) as progress:
        aligned = align_photos(
            images,
            folder,
            load_detector(options.detector),
            cut,
            progress=progress,
            group=everyone(),
        )
    told = (
        f"no face in {aligned.faceless:,} of {counted(aligned.photos, 'photo')}, "
        f"{aligned.unreadable:,} cannot be read: see {folder / LEFT_OUT}"
    )
    if not aligned.faces:
        raise InputError(f"{images.root}: {told}")
    if aligned.faces < aligned.photos:
        console.print(told, soft_wrap=True)
    whose = dict(zip(images.ids, images.identities, strict=True))
    rows = [(row.image, whose[row.photo]) for row in read_faces(folder)]
    return ImageList(folder, [image for image, _ in rows], [name for _, name in rows])


def embed_list(images: ImageList, model: Model, batch: int, warnings: Warnings) -> StoredEmbeddings:
    """Embed images into the cache. Tell what cannot be read, and warn of what cannot be judged."""
    console = warnings.console
    tell_passed_over(images, console)
    warnings.add(*warn_of_cut(model.module.provenance.cut, images))
    about = f"{FORMAT} {model.name!r} {images.root.resolve()} {images.fingerprint}"
    folder = in_cache("embeddings", about)
    if is_first() and (folder / STORE).is_file():
        try:
            read_embeddings(folder)
        except InputError:  # damaged, and can be made again
            shutil.rmtree(folder, ignore_errors=True)
    with Counting("embedding", console) as progress:
        stored = embed_images(
            model.module,
            model.name,
            images,
            folder,
            batch=batch,
            progress=progress,
            group=everyone(),
        )
    unreadable = len(images) - len(stored)
    if unreadable:
        console.print(
            f"left out {unreadable:,} of {counted(len(images), 'image')} that cannot be read: see "
            f"{folder / UNREADABLE}",
            soft_wrap=True,
        )
    warnings.add(*warn_of_images(model.module, images))
    return stored


def choose_threshold(
    options: ThresholdOptions, model: ModelName | None, warnings: Warnings
) -> tuple[float, float | None, OperatingPoints | None]:
    """Return the threshold to decide by, its FAR at evaluation, and what that measured.

    Args:
        options: of the command.
        model: what the embeddings were made by; the checkpoint must be the same.
        warnings: to add to where people are told apart badly.

    Raises:
        InputError: there is no evaluation, and no ``--threshold`` either; or both options are
            given.
    """
    if options.threshold is not None and options.far is not None:
        raise InputError("--threshold and --far: each says where to decide; give one of them")
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise InputError(f"--threshold {options.threshold:g}: expected a finite distance")
    if options.far is not None and not options.far <= 1:
        raise InputError(f"--far {options.far:g}: expected a rate in (0, 1]")
    try:
        path = _checkpoint(options)
        ours = {file_hash(path), matched_by(path)} - {None}
        if model is not None and not ours & {model.checkpoint, model.matches}:
            raise InputError(
                f"--checkpoint {path}: is not what embedded these, {model}; give that one, or "
                "--threshold"
            )
        points = find_operating_points(path, options.views if model is None else model.views)
    except InputError:
        if options.threshold is None:
            raise
        return options.threshold, None, None
    if options.threshold is not None:
        threshold = options.threshold
    elif options.far is not None:
        threshold = points.threshold_at(options.far)
    else:
        threshold = points.threshold
    warnings.add(*warn_of_threshold(points, threshold))
    return threshold, points.far_at(threshold), points
