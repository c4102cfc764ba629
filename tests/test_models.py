"""Claims about the networks."""

import pytest
import torch

from facenet_ext.models import SmallNet


@pytest.mark.parametrize(
    ("channels", "size", "stages"), [(1, 16, (1, 1)), (3, 56, (1, 1, 1, 1)), (1, 35, (2, 1, 1))]
)
def test_embeddings_lie_on_the_unit_sphere(
    channels: int, size: int, stages: tuple[int, ...]
) -> None:
    network = SmallNet(channels, 48, input_size=size, width=4, stages=stages).eval()
    embeddings = network(torch.rand(3, channels, size, size))
    assert embeddings.shape == (3, 48)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_exposure_and_contrast_do_not_matter() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1)).eval()
    images = torch.rand(4, 1, 16, 16)
    same = (network(images) - network(0.5 * images + 0.3)).norm(dim=1)
    other = (network(images) - network(images.flip(0))).norm(dim=1)
    assert same.max() < other.min() / 3


def test_a_constant_image_gives_a_finite_embedding() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1)).eval()
    assert torch.isfinite(network(torch.full((2, 1, 16, 16), 0.5))).all()


def test_mixed_precision_ends_before_the_embedding() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1)).eval()
    with torch.autocast("cpu", torch.bfloat16):
        embeddings = network(torch.rand(2, 1, 16, 16))
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_every_parameter_learns() -> None:
    network = SmallNet(input_size=16, width=8, stages=(1, 1))
    for parameter in network.parameters():  # the residual branches start switched off
        torch.nn.init.normal_(parameter, std=0.1) if parameter.ndim == 1 else None
    network(torch.rand(4, 1, 16, 16))[:, 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_too_many_stages_for_the_size_raise() -> None:
    with pytest.raises(ValueError, match="input_size must be at least 16 for 4 stages, got 12"):
        SmallNet(input_size=12, stages=(1, 1, 1, 1))
