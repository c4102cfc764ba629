"""Each command but ``train``: its help, its parser, and how it is run."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from inspect import cleandoc
from typing import NamedTuple

from jsonargparse import ArgumentParser

from facenet_ext.cli.arguments import add_arguments, read_arguments
from facenet_ext.cli.command_line import make_parser, run
from facenet_ext.commands import options
from facenet_ext.commands.options import (
    CheckpointOptions,
    CommandOptions,
    CompletionOptions,
    ThresholdOptions,
)
from facenet_ext.common.interrupts import loading

__all__ = ["build_parser", "run_command"]


class _Help(NamedTuple):
    """What the help of a command says.

    Attributes:
        options: of the command, with their own help.
        description: what the command does.
        examples: command lines, one a line.
    """

    options: type[CommandOptions | CompletionOptions]
    description: str
    examples: str


_HELP = {
    "evaluate": _Help(
        options.EvaluateOptions,
        "Verify pairs with a model, and write what comes of it: metrics.json, which 'verify', "
        "'identify' and 'cluster' take their thresholds from, and report.html.",
        """
        facenet evaluate
        facenet evaluate --data lfw --checkpoint runs/faces-20260101-120000
        facenet evaluate --data YouTubeFaces/frame_images_DB --pairs YouTubeFaces/splits.txt
        facenet evaluate --data photos --pairs pairs.csv --quality 0 --json
        facenet evaluate --data faces/val --all-pairs --far 0.0001""",
    ),
    "embed": _Help(
        options.EmbedOptions,
        "Embed all images under a folder into another folder: embeddings.npy, ids.txt, "
        "identities.txt (the folder of each image) and store.json (the model). An interrupted run "
        "goes on where it was when the same command is given again.",
        """
        facenet embed faces --output gallery
        facenet embed faces --checkpoint runs/faces-20260101-120000 --views one --json""",
    ),
    "verify": _Help(
        options.VerifyOptions,
        "Tell whether two images are of one person: 0 is the exit status if they are, 1 if they "
        "are not.",
        """
        facenet verify a.jpg b.jpg
        facenet verify a.jpg b.jpg --far 0.001 && echo same
        facenet verify a.jpg b.jpg --checkpoint runs/faces-20260101-120000 --threshold 1.1""",
    ),
    "identify": _Help(
        options.IdentifyOptions,
        "Find the identities of a gallery that are closest to each probe; one that is farther than "
        "the threshold from all of them is unknown. A probe that is an image of the gallery itself "
        "is compared with the other images only. Where the probes lie in folders with the names of "
        "the gallery's, tells who was recognised and who was taken for another. The exit status is "
        "1 if nobody gets a name.",
        """
        facenet identify gallery photo.jpg
        facenet identify gallery probes --far 0.001 --output found
        facenet identify gallery_embeddings probe_embeddings --top 10 --json""",
    ),
    "cluster": _Help(
        options.ClusterOptions,
        "Group images by who is on them: agglomerative clustering, up to the threshold, without a "
        "matrix of all distances. The exit status is 1 if no two images belong together.",
        """
        facenet cluster photos --output people
        facenet cluster embeddings --images photos --far 0.001 --json""",
    ),
    "mine": _Help(
        options.MineOptions,
        "Search a whole training set for triplets, out of core, and for images that are probably "
        "under the wrong name or under two. An interrupted search goes on where it was when the "
        "same command is given again. The exit status is 1 if there are no triplets.",
        """
        facenet mine runs/faces-20260101-120000
        facenet mine runs/faces-20260101-120000 --data other/faces --negatives hardest
        facenet mine embeddings --positives all
        facenet mine embeddings.npy --labels labels.npy --output mined""",
    ),
    "harmonize": _Help(
        options.HarmonizeOptions,
        "Train a new model so that its embeddings can be compared with those of an old one: a new "
        "last layer first, then all of it, with triplets from the embeddings of both. Report how "
        "well old and new embeddings are told apart. An interrupted run goes on where it was when "
        "the same command is given again.",
        """
        facenet harmonize runs/old
        facenet harmonize runs/old --new runs/better --output runs/harmonic
        facenet harmonize runs/old --new runs/better --layer-steps 300 --steps 1000""",
    ),
    "models": _Help(
        options.ModelsOptions,
        "Print what each network costs: parameters, multiply-adds, size, and milliseconds per "
        "image on this machine.",
        """
        facenet models
        facenet models --batch-norm --in-channels 1 --batch 32
        facenet models --repeats 0 --json""",
    ),
    "bench": _Help(
        options.BenchOptions,
        "Measure the kernels on this machine, each beside the matrix product of the same pairs: "
        "medians, in one run.",
        """
        facenet bench
        facenet bench --rows 50000 --dim 256 --threads 4
        facenet bench --device cuda --json""",
    ),
    "completion": _Help(
        CompletionOptions,
        "Print what lets a shell complete the commands and options of 'facenet'.",
        """
        eval "$(facenet completion bash)"
        eval "$(facenet completion zsh)"
        facenet completion fish > ~/.config/fish/completions/facenet.fish""",
    ),
    "export": _Help(
        options.ExportOptions,
        "Write the network of a checkpoint as ONNX, with its weights, for batches of any size. "
        "What it takes is the input of the network: floating-point images, cropped and scaled.",
        """
        facenet export runs/faces-20260101-120000 faces.onnx""",
    ),
}
"""Of each command."""

_GROUPS = (CheckpointOptions, ThresholdOptions)
"""Options that several commands share, and that their help shows under a title."""


def build_parser(name: str) -> ArgumentParser:
    """Return the parser of a command's options."""
    cls, description, examples = _HELP[name]
    parser = make_parser(f"facenet {name}", description, cleandoc(examples))
    names = [*vars(cls)["__annotations__"]]
    if issubclass(cls, CommandOptions):
        names += ["json"]
    add_arguments(parser, cls, names, flags=True)
    for base in _GROUPS:
        if issubclass(cls, base):
            group = parser.add_argument_group(str(base.__doc__).rstrip("."))
            add_arguments(group, base, vars(base)["__annotations__"], flags=True)
    return parser


def run_command(name: str, argv: Sequence[str]) -> int:
    """Read the command line and run a command.

    What does the work is imported after the command line is read: that takes seconds, and neither
    ``--help`` nor a wrong option should wait for it.

    Args:
        name: of the command; the function ``execute`` of ``commands/<name>.py`` is called with its
            options, and returns the exit status, None for 0. ``completion`` reads the parsers of
            all commands, so its module is beside them: ``cli/completion.py``.
        argv: arguments.

    Returns:
        The exit status: see :func:`.command_line.run`.
    """
    prog = f"facenet {name}"
    package = "cli" if name == "completion" else "commands"

    def work() -> int | None:
        given = read_arguments(_HELP[name].options, build_parser(name).parse_args(argv))
        with loading(prog):
            execute = importlib.import_module(f"facenet_ext.{package}.{name}").execute
        status: int | None = execute(given)
        return status

    return run(prog, work)
