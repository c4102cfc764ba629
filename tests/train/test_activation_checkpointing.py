"""Claims about ``--activation-checkpointing``: the same step, with less kept until the backward."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from small_runs import Facenet
from torch import nn

from facenet_ext import InputError
from facenet_ext.micro_batches import embed_in_micro_batches
from facenet_ext.models import (
    Committee,
    IResNet,
    NormalizedNetwork,
    SmallNet,
    WrappedNetwork,
    mlp,
    nn4,
)
from facenet_ext.train.activation_checkpointing import checkpoint_activations
from facenet_ext.train.draws import all_dropout


class Own(nn.Module):
    """Blocks in a list, dropout inside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.ReLU(), nn.Dropout())
            for _ in range(3)
        )
        self.last = nn.Linear(32 * 32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.last(x.flatten(1))


NETWORKS: dict[str, Callable[[], NormalizedNetwork | Committee]] = {
    "small": lambda: SmallNet(input_size=32, width=4),
    "committee": lambda: Committee([SmallNet(input_size=32, width=4) for _ in range(2)]),
    "nn4": lambda: nn4(16, in_channels=1, input_size=(32, 32), batch_norm=True),
    "iresnet": lambda: IResNet((2, 2), 16, in_channels=1, input_size=(32, 32), dropout=0.5),
    "own": lambda: WrappedNetwork(Own(), (1, 32, 32)),
}


def step(network: nn.Module, size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """The embeddings and gradients of a step, and the bytes that it kept for the backward."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    images = torch.rand(6, 1, 32, 32)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        embeddings = embed_in_micro_batches(network, images, size)
    (embeddings * torch.linspace(-1, 1, embeddings.numel()).view_as(embeddings)).sum().backward()
    grads = {n: p.grad for n, p in network.named_parameters() if p.grad is not None}
    return embeddings.detach(), grads, sum(kept.values())


@pytest.mark.parametrize("size", [6, 3], ids=["whole", "micro-batches"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_step_is_the_same_and_keeps_less(name: str, size: int) -> None:
    torch.manual_seed(0)
    plain = NETWORKS[name]()
    saving = copy.deepcopy(plain)
    names = list(saving.state_dict())
    checkpoint_activations(saving)
    assert list(saving.state_dict()) == names
    for network in (plain, saving):
        all_dropout(network)
    expected, expected_grads, most = step(plain, size)
    found, grads, kept = step(saving, size)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert grads.keys() == expected_grads.keys()
    for parameter in grads:
        torch.testing.assert_close(grads[parameter], expected_grads[parameter], msg=parameter)
    for buffer, value in plain.named_buffers():
        torch.testing.assert_close(saving.get_buffer(buffer), value, rtol=0, atol=0, msg=buffer)
    if size == 6:
        assert kept < 0.75 * most


def test_a_copy_computes_with_its_own_weights() -> None:
    """Averaged weights are kept in a deep copy of the network."""
    network = NETWORKS["iresnet"]()
    checkpoint_activations(network)
    other = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    embeddings = other.eval()(torch.rand(2, 1, 32, 32))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_a_network_without_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="found no blocks in the network"):
        checkpoint_activations(mlp([4], 8))


def test_a_run_takes_the_option(facenet: Facenet) -> None:
    figures = []
    for value in ("false", "true"):
        status, _, err = facenet("--activation-checkpointing", value, "--output", value)
        assert (status, err) == (0, "")
        state = torch.load(f"{value}/checkpoints/last.ckpt", weights_only=True)
        figures.append(state["state_dict"])
    for name, value in figures[0].items():
        torch.testing.assert_close(figures[1][name], value, msg=name)
    status, _, err = facenet("--activation-checkpointing", "true", "--sync-batch-norm", "true")
    assert status == 2
    assert "--sync-batch-norm and --activation-checkpointing" in err


@pytest.mark.ci
def test_arcfaces_network_trains_in_bfloat16(facenet: Facenet) -> None:
    options = ["--model", "iresnet18", "--precision", "bf16-mixed", "--max-steps", 2]
    status, _, err = facenet(*options, "--activation-checkpointing", "true", "--output", "run")
    assert (status, err) == (0, "")
    state = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert state["facenet_ext"]["network"] is None
    assert state["state_dict"]["network.fc.weight"].shape == (8, 512)
    assert state["state_dict"]["network.fc.weight"].dtype == torch.float32
    trained = state["optimizer_states"][0]["state"]
    assert len(trained) == 4 + 8 * 9 + 4 * 3 + 2 + 2 + 1, "all but the last scale, which is fixed"
