"""Claims about embeddings of one byte per dimension."""

import pytest
import torch
from torch.nn.functional import normalize

from facenet_ext.quantization import dequantize, quantize


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_an_embedding_survives_in_bytes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    embeddings = normalize(torch.randn(500, 128)).to(dtype)
    codes = quantize(embeddings)
    assert codes.dtype == torch.int8
    assert codes.nbytes == 500 * 128
    error = (dequantize(codes) - normalize(embeddings.float())).norm(dim=1)
    # A coordinate is off by at most half a step of max / 127; the largest of 128 is about 0.25.
    assert error.max() < 0.5 * 128**0.5 * embeddings.float().abs().max() / 127


def test_distances_move_by_less_than_a_percent_of_the_threshold() -> None:
    torch.manual_seed(0)
    a, b = normalize(torch.randn(2, 1000, 128), dim=2)
    exact = (a - b).square().sum(1)
    rounded = (dequantize(quantize(a)) - dequantize(quantize(b))).square().sum(1)
    assert (exact - rounded).abs().max() < 0.011


def test_equal_rows_stay_equal_and_the_scale_of_a_row_does_not_matter() -> None:
    x = torch.tensor([[0.6, -0.8, 0.0], [0.6, -0.8, 0.0], [3.0, -4.0, 0.0]])
    codes = quantize(x)
    assert torch.equal(codes[0], codes[1])
    assert torch.equal(codes[0], codes[2])
    assert codes[0].tolist() == [95, -127, 0]


def test_a_row_of_zeros_stays_zeros() -> None:
    assert dequantize(quantize(torch.zeros(1, 4))).tolist() == [[0.0] * 4]
    assert quantize(torch.zeros(3, 0)).shape == (3, 0)
    assert quantize(torch.zeros(0, 3)).shape == (0, 3)


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="embeddings: expected a matrix"):
        quantize(torch.rand(3))
    with pytest.raises(TypeError, match="embeddings"):
        quantize(torch.ones(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="embeddings: expected finite"):
        quantize(torch.full((1, 2), torch.nan))
    with pytest.raises(TypeError, match="codes: expected int8"):
        dequantize(torch.rand(3, 2))
    with pytest.raises(ValueError, match="codes: expected 2 dim"):
        dequantize(torch.ones(3, dtype=torch.int8))
