"""Claims about IResNet: the layers of ArcFace's code, counted one by one."""

from __future__ import annotations

import pytest
import torch

from facenet_ext.models import IRESNETS, IResNet, iresnet18, layer_costs

BLOCKS = {"iresnet18": (2, 2, 2, 2), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}
TOTALS = {"iresnet18": 24_025_600, "iresnet50": 43_590_848, "iresnet100": 65_156_160}
MACS = {"iresnet18": 2.61e9, "iresnet50": 6.31e9, "iresnet100": 12.09e9}


def counted(blocks: tuple[int, ...], dim: int = 512) -> dict[str, int]:
    """Weights by layer, from the shapes of ArcFace's layers."""
    norm = 2  # batch normalisation has a scale and a shift for each channel
    layers = {"conv1": 3 * 64 * 9, "bn1": norm * 64, "prelu": 64}
    inputs = 64
    for stage, count in enumerate(blocks):
        outputs = 64 * 2**stage
        rest = norm * outputs + outputs + 9 * outputs**2 + norm * outputs  # bn2 prelu conv2 bn3
        first = norm * inputs + 9 * inputs * outputs + rest
        downsample = inputs * outputs + norm * outputs
        others = (count - 1) * (norm * outputs + 9 * outputs**2 + rest)
        layers[f"layer{stage + 1}"] = first + downsample + others
        inputs = outputs
    return layers | {
        "bn2": norm * inputs,
        "dropout": 0,
        "fc": inputs * 7 * 7 * dim + dim,
        "features": norm * dim,
    }


@pytest.mark.parametrize("name", IRESNETS)
def test_every_parameter_is_one_of_arcfaces(name: str) -> None:
    with torch.device("meta"):
        network = IRESNETS[name]()
    costs = layer_costs(network)
    assert {cost.name: cost.parameters for cost in costs} == counted(BLOCKS[name])
    assert sum(p.numel() for p in network.parameters()) == TOTALS[name]
    assert sum(cost.macs for cost in costs) == pytest.approx(MACS[name], rel=2e-3)
    outputs = [cost.output for cost in costs if cost.name.startswith(("conv", "layer"))]
    assert outputs == [
        (64, 112, 112),
        (64, 56, 56),
        (128, 28, 28),
        (256, 14, 14),
        (512, 7, 7),
    ]


def test_weights_have_the_names_of_arcfaces_code() -> None:
    with torch.device("meta"):
        names = iresnet18().state_dict().keys()
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "prelu.weight",
        "layer1.0.bn1.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.bias",
        "layer4.1.prelu.weight",
        "layer4.1.bn3.bias",
        "bn2.weight",
        "fc.bias",
        "features.weight",
    } <= names
    assert not [name for name in names if name.startswith("layer1.1.downsample")]
    assert len(names) == 1 + 5 + 1 + 8 * 18 + 4 * 6 + 5 + 2 + 5


def tiny() -> IResNet:
    torch.manual_seed(0)
    return IResNet((1, 2), 16, in_channels=1, input_size=(20, 17))


def test_a_block_is_arcfaces() -> None:
    network = tiny().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    block, x = network.layer2[0], torch.randn(2, 64, 9, 8)
    out = block.bn3(block.conv2(block.prelu(block.bn2(block.conv1(block.bn1(x))))))
    torch.testing.assert_close(block(x), out + block.downsample(x))
    assert block.conv2.stride == (2, 2)
    assert block.conv1.stride == (1, 1)


def test_all_but_the_last_scale_learns() -> None:
    network = tiny()
    embeddings = network(torch.rand(4, 1, 20, 17))
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))
    (embeddings[0] - embeddings[1]).square().sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == ["features.weight"]


def test_the_last_layer_computes_in_float32() -> None:
    network = tiny().eval()
    seen: list[torch.dtype] = []
    for layer in (network.conv1, network.fc, network.features):
        layer.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    images = torch.rand(2, 1, 20, 17)
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = network(images)
    assert seen == [torch.bfloat16, torch.float32, torch.float32]
    assert (embeddings - network(images)).norm(dim=1).max() < 0.05


def test_weights_are_channels_last_and_layout_does_not_matter() -> None:
    network = tiny().eval()
    assert network.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.rand(2, 1, 20, 17)
    other = tiny().eval().to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(network(images), other(images))


@pytest.mark.ci
def test_it_compiles_in_one_graph() -> None:
    network, images = tiny().eval(), torch.rand(2, 1, 20, 17)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), network(images))
