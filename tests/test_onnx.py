"""Claims about the networks as ONNX, checked with onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from facenet_ext.models import (
    PAPER,
    WCCN,
    Cohort,
    Committee,
    EmbeddingNetwork,
    FisherVectors,
    Head,
    SmallNet,
    conv1d,
    conv2d,
    export_onnx,
    mlp,
)

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

NETWORKS = {
    "small": lambda: SmallNet(input_size=32, width=8),
    "committee": lambda: Committee(
        [SmallNet(input_size=40, aligned_size=32, width=8) for _ in range(2)]
    ),
    "nn1": lambda: PAPER["nn1"](16, in_channels=1, input_size=(32, 32)),
    "nn4": lambda: PAPER["nn4"](in_channels=1, input_size=(64, 64)),
    "nn2-batch-norm": lambda: PAPER["nn2"](input_size=(64, 64), batch_norm=True),
    "nns1": lambda: PAPER["nns1"](in_channels=1, input_size=(64, 48)),
    "nns2": lambda: PAPER["nns2"](),
    "mlp": lambda: mlp([12], 16, width=32),
    "conv1d": lambda: conv1d([5, 40], 16, width=8),
    "conv2d": lambda: conv2d([9, 40], 16, width=8),
}
MARKS = {name: [pytest.mark.slow] for name in NETWORKS}
MARKS |= {
    "small": [],
    "conv1d": [],
    "conv2d": [],
    "committee": [pytest.mark.ci],
    "nn4": [pytest.mark.ci],
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks) for name, marks in MARKS.items()])
def test_onnxruntime_embeds_as_torch_does(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network: EmbeddingNetwork | Committee = NETWORKS[name]()
    for module in network.modules():  # as after training
        if hasattr(module, "running_var") and module.running_var is not None:
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    dim = network.embedding_dim
    head = Head(None, None, None, dim)
    if name == "small":
        wccn, cohort = WCCN(dim), Cohort(dim + 6, 4)
        head = Head(wccn, FisherVectors((1, 32, 32), 6, components=3), cohort, dim)
        labels = torch.arange(12) // 2
        wccn.fit(nn.functional.normalize(torch.randn(12, dim)), labels)
        cohort.fit(nn.functional.normalize(torch.randn(12, dim + 6)), labels)
        for buffer in head.fisher.buffers():
            buffer.uniform_(0.1, 1)
    path = tmp_path / "network.onnx"
    export_onnx(network, path, head)
    assert network.training
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    assert entry.name == ("images" if len(network.input_shape) == 3 else "features")
    network.eval()
    for batch in (1, 2, 5):
        inputs = torch.rand(batch, *network.input_shape)
        (found,) = session.run(["embeddings"], {entry.name: inputs.numpy()})
        with torch.no_grad():
            expected = head(network(inputs), inputs)
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-5)
