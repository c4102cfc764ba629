"""Writes a network as ONNX, for runtimes other than torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from facenet_ext._files import replacing
from facenet_ext.models.committee import Committee
from facenet_ext.models.head import Head
from facenet_ext.models.network import NormalizedNetwork, evaluating


def export_onnx(
    network: NormalizedNetwork | Committee, path: str | Path, head: Head | None = None
) -> None:
    """Write a network as ONNX, for batches of any size.

    The input is called "images" (or "features") and the output "embeddings", rows of length 1.
    The file holds the weights.

    Args:
        network: exported in evaluation mode; its mode is restored.
        path: of the .onnx file.
        head: what follows the network, or None.

    Raises:
        ModuleNotFoundError: onnx and onnxscript are not installed (the extra ``onnx``).

    Example:
        >>> import tempfile
        >>> from facenet_ext.models import nns2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_onnx(nns2(), Path(folder, "nns2.onnx"))
        ...     Path(folder, "nns2.onnx").stat().st_size > 10_000_000
        True

    Source: ONNX, https://onnx.ai.
    """
    name = "images" if len(network.input_shape) == 3 else "features"
    weight = next(network.parameters())
    example = torch.rand(2, *network.input_shape, device=weight.device, dtype=weight.dtype)
    whole = network if head is None else _WithHead(network, head)
    silenced = logging.root.manager.disable
    try:
        with (
            evaluating(whole),
            replacing(Path(path)) as unfinished,
            warnings.catch_warnings(),
            contextlib.redirect_stderr(io.StringIO()),  # what it prints, its error says too
        ):
            warnings.simplefilter("ignore")  # the exporter warns of its own internals
            logging.disable(logging.WARNING)
            torch.onnx.export(
                whole,
                (example,),
                unfinished,
                input_names=[name],
                output_names=["embeddings"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        logging.disable(silenced)


class _WithHead(nn.Module):
    def __init__(self, network: nn.Module, head: Head) -> None:
        super().__init__()
        self.network, self.head = network, head

    def forward(self, inputs: Tensor) -> Tensor:
        embeddings: Tensor = self.head(self.network(inputs), inputs)
        return embeddings
