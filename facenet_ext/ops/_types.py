"""What the operators' fakes share."""

import torch


def value_type(dtype: torch.dtype) -> torch.dtype:
    """The dtype of losses and distances of embeddings of this dtype."""
    return torch.float64 if dtype == torch.float64 else torch.float32
