"""Claims about gradient caching: the gradient of the whole batch, in the memory of a part."""

import copy

import pytest
import torch
from torch import Tensor, nn

from facenet_ext import TripletSemiHardLoss
from facenet_ext.micro_batches import embed_in_micro_batches
from facenet_ext.models import SmallNet, nns2

LABELS = torch.arange(24) // 4


def step(network: nn.Module, inputs: Tensor, size: int) -> tuple[Tensor, dict[str, Tensor]]:
    network.zero_grad()
    loss = TripletSemiHardLoss()(embed_in_micro_batches(network, inputs, size), LABELS)
    loss.backward()
    return loss.detach(), {
        name: parameter.grad.clone() for name, parameter in network.named_parameters()
    }


@pytest.mark.parametrize("size", [1, 5, 8, 23])
def test_the_gradient_is_that_of_the_unsplit_batch(size: int) -> None:
    torch.manual_seed(0)
    network = nns2(16, in_channels=1, input_size=(32, 32)).double()
    inputs = torch.rand(24, 1, 32, 32, dtype=torch.float64)
    whole_loss, whole = step(network, inputs, 24)
    loss, gradient = step(network, inputs, size)
    torch.testing.assert_close(loss, whole_loss, rtol=1e-12, atol=0)
    for name in whole:
        torch.testing.assert_close(gradient[name], whole[name], rtol=1e-9, atol=1e-12)
    assert all(value.abs().sum() > 0 for value in whole.values())


def test_random_numbers_are_drawn_again_as_they_were() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 64), nn.Dropout(0.5), nn.Linear(64, 8)).double()
    inputs = torch.rand(24, 6, dtype=torch.float64)

    torch.manual_seed(1)
    embeddings = torch.cat([network(part) for part in inputs.chunk(3)])
    TripletSemiHardLoss()(embeddings, LABELS).backward()
    expected = {name: p.grad.clone() for name, p in network.named_parameters()}

    torch.manual_seed(1)
    _, gradient = step(network, inputs, 8)
    for name in expected:
        torch.testing.assert_close(gradient[name], expected[name], rtol=1e-12, atol=0)


def test_batch_normalisation_sees_parts_and_averages_each_once() -> None:
    torch.manual_seed(0)
    network = SmallNet(input_size=16, width=8, stages=(1, 1), embedding_dim=16, dropout=0.0)
    plain = copy.deepcopy(network)
    inputs = torch.rand(24, 1, 16, 16)
    embeddings = torch.cat([plain(part) for part in inputs.chunk(3)])
    TripletSemiHardLoss()(embeddings, LABELS).backward()
    step(network, inputs, 8)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(network.get_buffer(name), buffer, rtol=0, atol=0)
    for (_, a), (_, b) in zip(plain.named_parameters(), network.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def test_parts_are_even_and_no_larger_than_asked_for() -> None:
    sizes: list[int] = []

    class Count(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return x

    with torch.no_grad():
        embed_in_micro_batches(Count(), torch.rand(9, 2), 8)
        assert sizes == [5, 4]
        sizes.clear()
        embed_in_micro_batches(Count(), torch.rand(21, 2), 5)
        assert sizes == [5, 4, 4, 4, 4]
        sizes.clear()
        assert embed_in_micro_batches(Count(), torch.rand(0, 2), 8).shape == (0, 2)
        assert sizes == [0]


def test_the_forward_keeps_no_activations_of_parts() -> None:
    kept: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    network = nn.Sequential(nn.Linear(4, 50), nn.Tanh(), nn.Linear(50, 2))
    inputs = torch.rand(24, 4)
    for size, most in ((24, None), (6, 24 * 4)):
        kept.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            embed_in_micro_batches(network, inputs, size)
        activations = sum(kept)
        assert activations >= 24 * 50 if most is None else activations <= most


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        embed_in_micro_batches(nn.Identity(), torch.rand(2, 2), 0)
