"""Claims about the networks of the paper: its tables, cell by cell, and that they can be used."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from facenet_ext.models import (
    PAPER,
    EmbeddingNetwork,
    layer_costs,
    milliseconds_per_image,
    nn1,
    nn2,
    nn3,
    nn4,
    nns1,
    nns2,
)
from facenet_ext.models.layers import L2Pool

Factory = Callable[..., EmbeddingNetwork]
SMALL = {"nn1": 64, "nn2": 64, "nn3": 64, "nn4": 64, "nns1": 64, "nns2": 64}

# layer: output, parameters, MACs in millions as the paper prints them
NN1 = {
    "conv1": ((64, 110, 110), 9_472, 114.61),
    "rnorm1": ((64, 55, 55), 0, 0),
    "conv2a": ((64, 55, 55), 4_160, 12.58),
    "conv2": ((192, 55, 55), 110_784, 335.12),
    "pool2": ((192, 28, 28), 0, 0),
    "conv3a": ((192, 28, 28), 37_056, 29.05),
    "conv3": ((384, 28, 28), 663_936, 520.53),
    "pool3": ((384, 14, 14), 0, 0),
    "conv4a": ((384, 14, 14), 147_840, 28.98),
    "conv4": ((256, 14, 14), 884_992, 173.46),
    "conv5a": ((256, 14, 14), 65_792, 12.90),
    "conv5": ((256, 14, 14), 590_080, 115.66),
    "conv6a": ((256, 14, 14), 65_792, 12.90),
    "conv6": ((256, 14, 14), 590_080, 115.66),
    "pool4": ((256, 7, 7), 0, 0),
    "fc1": ((4096,), 102_768_640, 102.77),
    "fc2": ((4096,), 33_562_624, 33.56),
    "embedding": ((128,), 524_416, 0.52),
}
NN2 = {
    "conv1": ((64, 112, 112), 9_472, 118.82),
    "norm1": ((64, 56, 56), 0, 0),
    "inception2": ((192, 56, 56), 114_944, 360.46),
    "pool2": ((192, 28, 28), 0, 0),
    "inception3a": ((256, 28, 28), 163_696, 128.34),
    "inception3b": ((320, 28, 28), 227_776, 178.58),
    "inception3c": ((640, 14, 14), 397_792, 108.17),
    "inception4a": ((640, 14, 14), 545_536, 106.93),
    "inception4b": ((640, 14, 14), 595_216, 116.66),
    "inception4c": ((640, 14, 14), 654_112, 128.21),
    "inception4d": ((640, 14, 14), 722_224, 141.56),
    "inception4e": ((1024, 7, 7), 717_408, 56.26),
    "inception5a": ((1024, 7, 7), 1_588_464, 77.84),
    "inception5b": ((1024, 7, 7), 1_588_464, 77.84),
    "average": ((1024, 1, 1), 0, 0),
    "embedding": ((128,), 131_200, 0.13),
}


def meta(factory: Factory) -> EmbeddingNetwork:
    with torch.device("meta"):
        return factory()


@pytest.mark.parametrize(("factory", "table"), [(nn1, NN1), (nn2, NN2)], ids=["nn1", "nn2"])
def test_every_cell_of_the_papers_tables(factory: Factory, table: dict) -> None:
    costs = {cost.name: cost for cost in layer_costs(meta(factory))}
    for name, (output, parameters, millions) in table.items():
        assert costs[name].output == output, name
        assert costs[name].parameters == parameters, name
        # Two digits are printed; those of 5a and 5b, 77.8347, were rounded up.
        assert costs[name].macs / 1e6 == pytest.approx(millions, abs=0.006), name
    unlisted = costs.keys() - table.keys()
    assert all(costs[name].macs == 0 for name in unlisted)


@pytest.mark.parametrize(
    ("factory", "parameters", "macs"),
    [
        (nn1, 140_025_664, 1.608e9),
        (nn2, 7_456_304, 1.5998e9),
        (nn3, 7_456_304, 816e6),
        (nn4, 6_607_888, 285.3e6),
    ],
    ids=["nn1", "nn2", "nn3", "nn4"],
)
def test_the_papers_totals(factory: Factory, parameters: int, macs: float) -> None:
    costs = layer_costs(meta(factory))
    assert sum(cost.parameters for cost in costs) == parameters
    assert sum(cost.macs for cost in costs) == pytest.approx(macs, rel=5e-4)


@pytest.mark.parametrize(
    ("factory", "parameters", "macs"), [(nns1, 26e6, 220e6), (nns2, 4.3e6, 20e6)]
)
def test_the_small_networks_keep_their_budgets(
    factory: Factory, parameters: float, macs: float
) -> None:
    costs = layer_costs(meta(factory))
    assert sum(cost.parameters for cost in costs) == pytest.approx(parameters, rel=0.1)
    assert sum(cost.macs for cost in costs) == pytest.approx(macs, rel=0.1)


@pytest.mark.parametrize("name", PAPER)
@pytest.mark.parametrize("batch_norm", [False, True], ids=["paper", "batch-norm"])
def test_random_weights_tell_images_apart_and_learn(name: str, batch_norm: bool) -> None:
    torch.manual_seed(0)
    size = SMALL[name]
    network = PAPER[name](
        32, in_channels=1, input_size=(size, size - 10), batch_norm=batch_norm, dropout=0.1
    )
    images = torch.rand(4, 1, size, size - 10)
    embeddings = network(images)
    assert embeddings.shape == (4, 32)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    assert torch.pdist(embeddings).min() > 1e-3
    (embeddings[0] - embeddings[1]).square().sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert not still
    batch_norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(batch_norms) == batch_norm


@pytest.mark.parametrize("factory", [nn2, nn4])
def test_the_inception_networks_take_any_size(factory: Factory) -> None:
    network = factory(input_size=(96, 96)).eval()
    assert network(torch.rand(1, 3, 64, 80)).shape == (1, 128)


def test_counting_leaves_the_network_as_it_was() -> None:
    network = nns2(batch_norm=True)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    layer_costs(network)
    assert network.training
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert not any(module._forward_hooks for module in network.modules())


def test_time_is_measured() -> None:
    assert 0 < milliseconds_per_image(nns2(), batch=1, repeats=1) < 10_000


def test_l2_pooling_is_the_root_of_the_sum_of_squares() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    pooled = L2Pool()(x)
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    windows = padded.unfold(2, 3, 1).unfold(3, 3, 1)
    torch.testing.assert_close(pooled, (windows.square().sum((-1, -2)) + 1e-6).sqrt())


def test_l2_pooling_of_zeros_has_a_gradient() -> None:
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    L2Pool()(x).sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.ci
def test_networks_compile_in_one_graph() -> None:
    torch.manual_seed(0)
    network = nns2(in_channels=1, input_size=(48, 48)).eval()
    images = torch.rand(2, 1, 48, 48)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), network(images))


def test_weights_are_channels_last() -> None:
    weight = nn4().features.conv1[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
