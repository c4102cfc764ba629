"""CrossBatchMemory as a module: its state, the dtypes that it stores, what it refuses."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from helpers import assert_same_state, loss_and_gradient, make_batches, make_cloud, make_labels
from tolerances import DTYPES
from torch import nn

from facenet_ext import functional
from facenet_ext.losses import TripletLoss
from facenet_ext.memory import CrossBatchMemory
from facenet_ext.miners import TripletMiner

DIM = 7

# --- state ---------------------------------------------------------------------------------------


def through_a_file(state: Any) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("filled", [0, 2])
def test_saved_and_loaded_it_goes_on_bit_for_bit(
    filled: int, before: int, dtype: torch.dtype
) -> None:
    """Into a fresh memory, or one that holds other rows and stands elsewhere."""
    batches = make_batches(9, 20, 14, 20, 3, dtype=dtype, dim=DIM)
    memory, other = (CrossBatchMemory(TripletLoss(), DIM, 31) for _ in range(2))
    for x, y in batches[:before]:
        memory(x, y)
    for x, y in make_batches(13, 31, dim=DIM)[:filled]:
        other(x.half(), y)
    other.load_state_dict(through_a_file(memory.state_dict()))
    assert len(other) == len(memory)
    for x, y in batches[before:]:
        assert torch.equal(other(x, y), memory(x, y))
    assert_same_state(other.state_dict(), memory.state_dict())


def test_a_state_of_another_size_is_refused_and_changes_nothing() -> None:
    ((x, y),) = make_batches(20, dim=DIM)
    state = CrossBatchMemory(TripletLoss(), DIM, 30).state_dict()
    for memory in (
        CrossBatchMemory(TripletLoss(), DIM, 31),
        CrossBatchMemory(TripletLoss(), DIM + 1, 30),
    ):
        rows = torch.nn.functional.pad(x, (0, memory.embedding_dim - DIM))
        memory(rows, y)
        before = copy.deepcopy(memory.state_dict())
        said = rf"expected memory_size={memory.memory_size} and embedding_dim="
        with pytest.raises(RuntimeError, match=said + rf"{memory.embedding_dim}, got 30 and 7"):
            memory.load_state_dict(state)
        assert_same_state(memory.state_dict(), before)


def test_a_state_of_another_dtype_is_loaded_in_inference_mode_too() -> None:
    (x, y), (later, later_y) = make_batches(20, 20, dtype=torch.float64, dim=DIM)
    memory, other = (CrossBatchMemory(TripletLoss(), DIM, 31) for _ in range(2))
    memory(x, y)
    with torch.inference_mode():
        other.load_state_dict(memory.state_dict())
    assert torch.equal(other(later, later_y), memory(later, later_y))


def test_embeddings_of_one_dimension_are_refused_like_those_of_another_size() -> None:
    memory = CrossBatchMemory(TripletLoss(), DIM, 31)
    state = memory.state_dict() | {"embeddings": torch.zeros(4)}
    with pytest.raises(RuntimeError, match="expected memory_size=31 and embedding_dim=7, got 4;"):
        memory.load_state_dict(state)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_loss_that_fails_leaves_the_memory_as_it_was(before: int) -> None:
    memory = CrossBatchMemory(TripletLoss(max_per_class=20), DIM, 30)
    for x, y in make_batches(12, 12, classes=6, dim=DIM)[:before]:
        memory(x, y)
    state = copy.deepcopy(memory.state_dict())
    ((x, _),) = make_batches(22, dim=DIM)
    with pytest.raises(RuntimeError, match="max_per_class"):
        memory(x, torch.tensor([0] * 21 + [1]))
    assert_same_state(memory.state_dict(), state)


def test_a_subclass_with_a_call_of_its_own_may_read_the_memory_in_its_backward() -> None:
    class Pulled(TripletLoss):
        def forward(self, embeddings: Any, labels: Any, *rest: Any, **ids: Any) -> torch.Tensor:  # type: ignore[override]
            loss = super().forward(embeddings, labels, *rest, **ids)
            return loss + (embeddings @ rest[1].T).mean()

    memory = CrossBatchMemory(Pulled(), DIM, 10)
    (x, y), (later, later_y) = make_batches(6, 6, dim=DIM)
    x.requires_grad_()
    loss = memory(x, y)
    memory(later, later_y)
    loss.backward()
    assert x.grad is not None


def test_a_state_without_the_position_is_refused() -> None:
    memory = CrossBatchMemory(TripletLoss(), DIM, 30)
    state = {k: v for k, v in memory.state_dict().items() if k != "_extra_state"}
    with pytest.raises(RuntimeError, match="_extra_state"):
        memory.load_state_dict(state)


def test_it_is_part_of_a_models_state() -> None:
    ((x, y),) = make_batches(20, dim=DIM)
    model, twin = (nn.ModuleDict({"m": CrossBatchMemory(TripletLoss(), DIM, 9)}) for _ in range(2))
    model["m"](x, y)
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin["m"](x, y), model["m"](x, y))


def test_pickle_and_deepcopy() -> None:
    (x, y), (later, z) = make_batches(20, 20, dim=DIM)
    memory = CrossBatchMemory(TripletLoss(), DIM, 30, TripletMiner())
    memory(x, y)
    twins = pickle.loads(pickle.dumps(memory)), copy.deepcopy(memory)
    expected = memory(later, z)
    for twin in twins:
        assert repr(twin) == repr(memory)
        assert torch.equal(twin(later, z), expected)


def test_reset_forgets_everything() -> None:
    (x, y), (later, z) = make_batches(20, 20, dim=DIM)
    memory, fresh = (CrossBatchMemory(TripletLoss(), DIM, 30) for _ in range(2))
    memory(x, y)
    memory.reset()
    assert len(memory) == 0
    assert torch.equal(memory(later, z), fresh(later, z))
    assert_same_state(memory.state_dict(), fresh.state_dict())


def test_a_row_that_is_not_finite_is_not_passed_over_until_it_is_gone() -> None:
    memory = CrossBatchMemory(TripletLoss(), DIM, 30)
    for k, (x, y) in enumerate(make_batches(15, 15, 15, 15, dim=DIM)):
        x[3, 1] = torch.nan if k == 1 else x[3, 1]
        assert memory(x, y).isnan() == (k in (1, 2))


def test_repr_shows_every_option() -> None:
    shown = repr(CrossBatchMemory(TripletLoss(0.3), 16, 512, TripletMiner(), dtype=torch.float16))
    for option in ("embedding_dim=16", "memory_size=512", "dtype=torch.float16"):
        assert option in shown
    assert "(loss): TripletLoss(margin=0.3" in shown
    assert "(miner): TripletMiner(" in shown
    assert "dtype=None" in repr(CrossBatchMemory(TripletLoss(), 16))


# --- dtypes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_are_stored_as_the_first_batch_comes(dtype: torch.dtype) -> None:
    (x, y), (later, z) = make_batches(20, 20, dtype=dtype, dim=DIM)
    memory = CrossBatchMemory(TripletLoss(), DIM, 50)
    memory(x[:0], y[:0])
    memory(x, y)
    assert memory.embeddings.dtype == dtype
    memory(later.double(), z)
    assert memory.embeddings.dtype == dtype
    memory.reset()
    memory(later.double(), z)
    assert memory.embeddings.dtype == torch.float64


@pytest.mark.parametrize("stored", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_distances_are_computed_in_the_wider_dtype(dtype: torch.dtype, stored: torch.dtype) -> None:
    (x, y), (later, z) = make_batches(20, 20, dtype=dtype, dim=DIM)
    memory = CrossBatchMemory(TripletLoss(0.4), DIM, 20, dtype=stored)
    memory.enqueue(x, y)
    assert memory.embeddings.dtype == stored
    wider = torch.promote_types(dtype, stored)
    loss, gradient = loss_and_gradient(lambda x: memory(x, z, enqueue=False), later)
    bank = x.to(stored).to(wider)
    expected = functional.mined_triplet_loss(later.to(wider), z, 0.4, ref_emb=bank, ref_labels=y)
    assert torch.equal(loss, expected)
    assert gradient.dtype == dtype


@pytest.mark.parametrize("stored", [None, torch.float32])
def test_under_autocast(stored: torch.dtype | None) -> None:
    """A half-precision batch makes a half-precision memory, or meets one of float32 in float32."""
    layer = nn.Linear(5, DIM)
    memory = CrossBatchMemory(TripletLoss(0.4), DIM, 60, dtype=stored)
    device = memory.embeddings.device.type
    for seed in range(3):
        with torch.autocast(device, torch.bfloat16):
            x = layer(make_cloud("gaussian", 30, 5, seed=seed))
            loss = memory(x, make_labels("quads", 30, seed) % 6)
        assert x.dtype == torch.bfloat16
        assert loss.dtype == torch.float32
        loss.backward()
    assert memory.embeddings.dtype == (stored or torch.bfloat16)
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    assert layer.weight.grad.any()


def test_what_is_stored_without_gradients_serves_with_them() -> None:
    (x, y), (later, z) = make_batches(20, 20, dim=DIM)
    memories = [CrossBatchMemory(TripletLoss(), DIM, 60) for _ in range(3)]
    for memory, context in zip(
        memories, (torch.inference_mode, torch.no_grad, torch.enable_grad), strict=True
    ):
        with context():
            memory(x, y)
    losses = [memory(later.requires_grad_(), z) for memory in memories]
    assert all(torch.equal(loss, losses[0]) and loss.requires_grad for loss in losses)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_labels_and_ids_of_any_integer_type(dtype: torch.dtype) -> None:
    ((x, y),) = make_batches(20, dim=DIM)
    ids = torch.arange(20)
    memory, twin = (CrossBatchMemory(TripletLoss(0.4), DIM, 60) for _ in range(2))
    assert torch.equal(memory(x, y.to(dtype), ids=ids.to(dtype)), twin(x, y, ids=ids))
    assert_same_state(memory.state_dict(), twin.state_dict())


def test_it_moves_to_another_device() -> None:
    memory = CrossBatchMemory(TripletLoss(), DIM, 60).to("meta")
    assert {b.device.type for b in memory.buffers()} == {"meta"}
    with pytest.raises(
        ValueError, match=r"embeddings: expected them on meta as the memory, got .*"
    ):
        memory(*make_batches(20, dim=DIM)[0])


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "4", None])
@pytest.mark.parametrize("name", ["embedding_dim", "memory_size"])
def test_a_size_that_is_no_number_of_rows(name: str, size: Any) -> None:
    sizes = {"embedding_dim": 4, "memory_size": 9} | {name: size}
    with pytest.raises(ValueError, match=rf"^{name}: expected a whole number from 1, got {size!r}"):
        CrossBatchMemory(TripletLoss(), **sizes)


def test_what_is_made_of_the_wrong_things() -> None:
    with pytest.raises(TypeError, match=r"^loss: expected a torch.nn.Module, got function"):
        CrossBatchMemory(functional.mined_triplet_loss, 4, 9)
    with pytest.raises(TypeError, match=r"^loss: expected a torch.nn.Module, got NoneType"):
        CrossBatchMemory(None, 4, 9)
    with pytest.raises(TypeError, match=r"^miner: expected a torch.nn.Module, got str"):
        CrossBatchMemory(TripletLoss(), 4, 9, "hard")
    with pytest.raises(TypeError, match=r"^dtype: expected float32, .* got torch.int8"):
        CrossBatchMemory(TripletLoss(), 4, 9, dtype=torch.int8)


X, Y = torch.zeros(5, 4), torch.zeros(5, dtype=torch.int64)


@pytest.mark.parametrize(
    ("args", "options", "exception", "message"),
    [
        ((X[0], Y), {}, ValueError, r"embeddings: expected a matrix"),
        ((X.int(), Y), {}, TypeError, r"embeddings: expected float32"),
        ((X[:, :3], Y), {}, ValueError, r"embeddings: expected 4 columns .*embedding_dim.* got 3"),
        ((X, Y[:4]), {}, ValueError, r"labels: expected one per row of embeddings, 5, got 4"),
        ((X, None), {}, TypeError, r"labels: expected a tensor of integers, got NoneType"),
        ((X, Y, (Y, Y, Y)), {}, ValueError, r"indices_tuple: expected None; .* pass a miner"),
        ((X, Y), {"ids": Y[:4]}, ValueError, r"ids: expected one per row of embeddings, 5, got 4"),
        ((X, Y), {"ids": X[:, 0]}, TypeError, r"ids: expected integers, got torch.float32"),
        ((X, Y), {"enqueue": Y}, TypeError, r"enqueue: expected .* booleans, got torch.int64"),
        ((X, Y), {"enqueue": 1}, TypeError, r"enqueue: expected .* booleans, got 1"),
        (
            (X, Y),
            {"enqueue": Y[:4] == 0},
            ValueError,
            r"enqueue: expected one per row of embeddings, 5, got shape \(4,\)",
        ),
    ],
)
def test_bad_calls_are_refused_and_change_nothing(
    args: tuple[Any, ...], options: dict[str, Any], exception: type[Exception], message: str
) -> None:
    memory = CrossBatchMemory(TripletLoss(), 4, 9)
    memory(X, Y)
    before = copy.deepcopy(memory.state_dict())
    with pytest.raises(exception, match="^" + message):
        memory(*args, **options)
    assert_same_state(memory.state_dict(), before)
