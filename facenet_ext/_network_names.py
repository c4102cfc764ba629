"""The names by which networks are chosen.

Imports no torch, so that command lines can offer the names before torch is loaded.
"""

import re
from typing import Literal, get_args

Paper = Literal["nn1", "nn2", "nn3", "nn4", "nns1", "nns2"]
IResNets = Literal["iresnet18", "iresnet50", "iresnet100"]
ForFeatures = Literal["mlp", "conv1d", "conv2d"]
BuiltIn = Literal["small", Paper, IResNets, ForFeatures]

FOR_FEATURES: tuple[str, ...] = get_args(ForFeatures)
ANY_LENGTH = ("conv1d", "conv2d")
"""Networks whose sequences may be longer or shorter than in training."""
BUILT_IN: tuple[str, ...] = get_args(BuiltIn)

OWN = r"^[^\W\d][\w.-]*(:[^\W\d][\w.]*)?$"
"""The name of a network of one's own: ``package.module:function``, or what it is registered as."""


def is_own(name: object) -> bool:
    """Whether a name means a network of the user's own, not one of this package.

    Example:
        >>> is_own("nets:resnet"), is_own("small"), is_own("nets:os.system('ls')")
        (True, False, False)
    """
    return isinstance(name, str) and name not in BUILT_IN and re.match(OWN, name) is not None
