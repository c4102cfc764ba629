"""What would be a loss of 0 without a word is warned about, once, where nothing is waited for."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers import make_batch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import facenet_ext
from facenet_ext import _warnings

N = 12
X = make_batch("quads", N, 5)[0]
DIFFERENT, ONE, MIXED = torch.arange(N), torch.full((N,), 7), torch.arange(N) // 4
TRIPLETS = facenet_ext.select_triplets(X, MIXED)

CALLS: dict[str, Callable[..., Any]] = {
    "mined": facenet_ext.mined_triplet_loss,
    "mined, none": lambda *a, **k: facenet_ext.mined_triplet_loss(*a, reduction="none", **k),
    "mined, swap": lambda *a, **k: facenet_ext.mined_triplet_loss(*a, swap=True, **k),
    "mined, smooth": lambda *a, **k: facenet_ext.mined_triplet_loss(*a, smooth=True, **k),
    "all": facenet_ext.triplet_margin_loss,
    "supcon": facenet_ext.supcon_loss,
    "ntxent": facenet_ext.ntxent_loss,
    "selection": facenet_ext.select_triplets,
    "loss": facenet_ext.TripletSemiHardLoss(),
    "miner": facenet_ext.TripletMiner(),
    "memory": lambda *a, **k: facenet_ext.CrossBatchMemory(facenet_ext.TripletLoss(), 5)(*a, **k),
}


@pytest.fixture(autouse=True)
def nothing_told() -> Iterator[None]:
    _warnings._told.clear()
    yield
    _warnings._told.clear()


@contextmanager
def silence() -> Iterator[None]:
    """A warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def silent() -> Iterator[None]:
    with silence():
        yield


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_batch_of_one_class(call: Callable[..., Any]) -> None:
    told = r"no triplet, .* loss is 0: all labels are 7\..*batch_sampler=facenet_ext.MPerClass"
    with pytest.warns(UserWarning, match=told) as found:
        call(X, ONE)
    assert [warning.filename for warning in found] == [__file__]
    with silence():
        call(X, ONE)


@pytest.mark.parametrize("name", [name for name in CALLS if name != "memory"])
def test_labels_that_all_differ(name: str) -> None:
    with pytest.warns(UserWarning, match=r"its 12 labels all differ\. .*MPerClassSampler"):
        CALLS[name](X, DIFFERENT)
    with silence():
        CALLS[name](X, DIFFERENT)


@pytest.mark.parametrize("name", ["mined", "all", "selection", "loss", "miner"])
@pytest.mark.parametrize(
    ("ref_labels", "told"),
    [
        (MIXED + 5, "none of its labels is among ref_labels"),
        (torch.ones(N, dtype=torch.int32), "all ref_labels are 1"),
    ],
)
def test_candidates_without_a_triplet(name: str, ref_labels: Tensor, told: str) -> None:
    with pytest.warns(UserWarning, match=told):
        CALLS[name](X, MIXED, ref_emb=X, ref_labels=ref_labels)


@pytest.mark.usefixtures("silent")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_other_batches_are_no_matter(call: Callable[..., Any]) -> None:
    """Of one triplet each way, with a loss of 0 all the same, and of no rows."""
    call(X, MIXED)
    call(X * torch.arange(1, N + 1).unsqueeze(1) * 1e3, torch.arange(N) // (N - 1))
    call(X[:0], MIXED[:0])


@pytest.mark.usefixtures("silent")
def test_a_memory_begins_without_a_word() -> None:
    """Rows of its first batches meet their own class in later ones."""
    memory = facenet_ext.CrossBatchMemory(facenet_ext.TripletLoss(), 5)
    for _ in range(3):
        memory(X, DIFFERENT)


@pytest.mark.usefixtures("silent")
def test_what_is_traced_is_not_read() -> None:
    loss = facenet_ext.mined_triplet_loss
    with FakeTensorMode() as mode:
        loss(mode.from_tensor(X), mode.from_tensor(DIFFERENT))
    torch.func.grad(loss)(X, DIFFERENT)
    torch.func.functionalize(loss)(X, DIFFERENT)
    torch.compile(loss, backend="eager", fullgraph=True)(X, DIFFERENT)
    torch.export.export(facenet_ext.TripletLoss(), (X, DIFFERENT))


def test_a_tracer_is_not_told_of_a_value_that_was_read() -> None:
    with warnings.catch_warnings(record=True) as found:
        torch.jit.trace(facenet_ext.mined_triplet_loss, (X, DIFFERENT), check_trace=False)
    assert not [w for w in found if re.search("no triplet|Python list", str(w.message))]


def test_reading_is_no_operation() -> None:
    """What records operations sees the loss's alone."""
    with pytest.warns(UserWarning, match="all differ"):
        graph = make_fx(lambda x, y: facenet_ext.mined_triplet_loss(x, y))(X, DIFFERENT).graph
    called = {str(node.target) for node in graph.nodes if node.op == "call_function"}
    assert called == {"facenet_ext.mined_triplet_loss.default", str(operator.getitem)}


@pytest.mark.usefixtures("silent")
def test_labels_on_a_device_are_not_waited_for() -> None:
    """A loss there is not read either; the caller's labels are, where they are on the CPU."""
    result = torch.empty((), device="meta")
    _warnings.warn_without_triplets(result, torch.empty(N, device="meta"), None)
    with pytest.warns(UserWarning, match="all differ"):
        _warnings.warn_without_triplets(result, DIFFERENT, None)


LOSSES = [
    facenet_ext.TripletLoss,
    facenet_ext.TripletHardLoss,
    facenet_ext.TripletSemiHardLoss,
    facenet_ext.TripletMarginLoss,
    facenet_ext.HarmonicTripletLoss,
]
FUNCTIONS: dict[str, Callable[[float], Tensor]] = {
    "mined": lambda margin: facenet_ext.mined_triplet_loss(X, MIXED, margin),
    "all": lambda margin: facenet_ext.triplet_margin_loss(X, MIXED, margin),
    "given": lambda margin: facenet_ext.triplet_loss(X, TRIPLETS, margin),
}
TOLD = r"margin: expected 0 or more, got -0\.25"


@pytest.mark.parametrize("make", LOSSES)
def test_a_loss_of_a_negative_margin(make: Callable[[float], torch.nn.Module]) -> None:
    """Where it is made; its calls add nothing."""
    with pytest.warns(UserWarning, match=TOLD) as found:
        loss = make(-0.25)
    assert [warning.filename for warning in found] == [__file__]
    with silence():
        loss(X, MIXED, ref_emb=X, ref_labels=MIXED)
        make(0.0)


@pytest.mark.parametrize("call", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_with_a_negative_margin(call: Callable[[float], Tensor]) -> None:
    with pytest.warns(UserWarning, match=TOLD) as found:
        call(-0.25)
    assert [warning.filename for warning in found] == [__file__]
    with silence():
        call(-0.25)
        call(0.0)


@pytest.mark.usefixtures("silent")
def test_a_miner_may_have_one() -> None:
    """Its margin chooses: negatives closer than the positive by so much."""
    facenet_ext.TripletMiner(margin=-1.0, negatives="random_violating")(X, MIXED)
