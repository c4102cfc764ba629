"""Embeddings in a byte per dimension: 128 bytes for a face."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from facenet_ext import _validation as check

__all__ = ["dequantize", "quantize"]


def quantize(embeddings: Tensor) -> Tensor:
    r"""Round each embedding to a byte per dimension.

    .. math:: q_k = \operatorname{round}\left(127\, \frac{x_k}{\max_j |x_j|}\right)

    The scale differs from row to row and is not stored. An embedding has length 1, so
    :func:`dequantize` finds the scale again. A dimension takes 1 byte in place of 4, and no set of
    embeddings is needed to choose a scale.

    Args:
        embeddings: ``[N, D]`` floating point, rows of length 1.

    Returns:
        ``[N, D]`` int8.

    Raises:
        ValueError: embeddings that are not 2-D, or not finite.
        TypeError: embeddings that are not floating point.

    Example:
        >>> quantize(torch.tensor([[0.6, -0.8]]))
        tensor([[  95, -127]], dtype=torch.int8)

    Source: FaceNet (Schroff et al., CVPR 2015), section 5.4: the 128 floats can be quantised to 128
    bytes without loss of accuracy.
    """
    check.check_embeddings("embeddings", embeddings)
    wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    if not bool(torch.isfinite(wide).all()):
        raise ValueError("embeddings: expected finite numbers, got NaN or infinity")
    if wide.shape[1] == 0:
        return wide.to(torch.int8)
    largest = wide.abs().amax(1, keepdim=True).clamp(min=torch.finfo(wide.dtype).tiny)
    return (127 * (wide / largest)).round().to(torch.int8)


def dequantize(codes: Tensor) -> Tensor:
    r"""Return the embeddings, of length 1, of codes.

    .. math:: \hat x = \frac{q}{\lVert q \rVert_2}

    Args:
        codes: ``[N, D]`` int8, what :func:`quantize` returned.

    Returns:
        ``[N, D]`` float32.

    Raises:
        TypeError: codes that are not int8.
        ValueError: codes that are not 2-D.

    Example:
        >>> dequantize(quantize(torch.tensor([[0.6, -0.8]])))
        tensor([[ 0.5990, -0.8008]])

    Source: FaceNet, section 5.4.
    """
    if codes.dtype != torch.int8:
        raise TypeError(f"codes: expected int8, got {codes.dtype}")
    if codes.ndim != 2:
        raise ValueError(f"codes: expected 2 dimensions, got shape {tuple(codes.shape)}")
    return normalize(codes.float())
