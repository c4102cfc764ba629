"""What every module has in common, whatever it computes: its repr, and copies of every kind.

A module is found by its being public; its options are those of its constructor, by name.
"""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import make_batch
from torch.utils._pytree import tree_leaves

from facenet_ext import losses, miners

MODULES: dict[str, type[torch.nn.Module]] = {
    name: getattr(module, name) for module in (losses, miners) for name in module.__all__
}
# Values other than the defaults; an option that is not here gets another of its default's type.
OTHERS: dict[str, Any] = {
    "positives": "hardest",
    "negatives": "hardest",
    "fallback": "drop",
    "distance": "euclidean",
    "reduction": "sum",
    "max_per_class": 4,
}
COPIES: dict[str, Callable[[torch.nn.Module], torch.nn.Module]] = {
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "deepcopy": copy.deepcopy,
    "torch.save": lambda m: saved(m, weights_only=False),
    "repr": lambda m: eval(repr(m), dict(MODULES)),
    "state_dict": lambda m: with_state(type(m)(**options_of(m)), saved(m.state_dict())),
}
# Modules whose calls need rows beside the batch.
NEED_ROWS = ("HarmonicTripletLoss",)
CASES = [(name, others) for name in MODULES for others in (False, True)]


def saved(value: Any, weights_only: bool = True) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=weights_only)


def with_state(module: torch.nn.Module, state: dict[str, Any]) -> torch.nn.Module:
    module.load_state_dict(state)
    return module


def parameters_of(make: type[torch.nn.Module]) -> dict[str, Any]:
    """The constructor's options and their defaults."""
    parameters = inspect.signature(make).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def options_of(module: torch.nn.Module) -> dict[str, Any]:
    return {name: getattr(module, name) for name in parameters_of(type(module))}


def another(name: str, default: Any) -> Any:
    if name in OTHERS:
        return OTHERS[name]
    if isinstance(default, bool):
        return not default
    return default + 0.375 if isinstance(default, float) else default


def make(name: str, others: bool) -> torch.nn.Module:
    if not others:
        return MODULES[name]()
    options = {k: another(k, default) for k, default in parameters_of(MODULES[name]).items()}
    return MODULES[name](**options)


@pytest.mark.parametrize(("name", "others"), CASES)
def test_repr_shows_every_option(name: str, others: bool) -> None:
    module = make(name, others)
    shown = ", ".join(f"{option}={value!r}" for option, value in options_of(module).items())
    assert repr(module) == f"{name}({shown})"


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(("name", "others"), CASES)
def test_a_copy_is_the_same_module(name: str, others: bool, how: str) -> None:
    x, y = make_batch("quads", 25, 7)
    module = make(name, others).eval()
    twin = COPIES[how](module)
    assert twin is not module
    assert type(twin) is type(module)
    assert repr(twin) == repr(module)
    rows = {"ref_emb": x + 1, "ref_labels": y + 100} if name in NEED_ROWS else {}
    for actual, expected in zip(
        tree_leaves(twin(x, y, **rows)), tree_leaves(module(x, y, **rows)), strict=True
    ):
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_inside_a_model_is_saved_with_it(name: str) -> None:
    model = torch.nn.ModuleDict({"trunk": torch.nn.Linear(3, 2), "loss": make(name, True)})
    twin = saved(model, weights_only=False)
    assert repr(twin) == repr(model)
    assert [*twin.state_dict()] == [*model.state_dict()]


@pytest.mark.parametrize("name", MODULES)
def test_an_option_that_is_set_is_used_and_checked(name: str) -> None:
    """Set after the module was made: its rule is another then, and a rule that is none is not."""
    x, y = make_batch("quads", 25, 7)
    rows = {"ref_emb": x + 1, "ref_labels": y + 100} if name in NEED_ROWS else {}
    settings = {"margin": 0.575, "distance": "euclidean", "temperature": 0.5}
    options = {k: v for k, v in settings.items() if k in parameters_of(MODULES[name])}
    module, expected = make(name, False), MODULES[name](**options)
    for option, value in options.items():
        setattr(module, option, value)
    assert repr(module) == repr(expected)
    for actual, wanted in zip(
        tree_leaves(module(x, y, **rows)), tree_leaves(expected(x, y, **rows)), strict=True
    ):
        assert torch.equal(actual, wanted)
    if hasattr(module, "rule"):
        with pytest.raises(ValueError, match="distance: expected one of"):
            module.distance = "manhattan"
        assert module.distance == module.rule.distance == "euclidean"
