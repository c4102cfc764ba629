"""The operators called directly, with hostile arguments: a result or an error, never a bad read.

``torch.ops.facenet_ext`` has no Python in front of it. test_sanitizers.py runs this file again with
the CPU library, and with the emulated CUDA kernels, under AddressSanitizer.

Arguments are made from an operator's schema, by their names: a new operator is fuzzed without
further ado, and a new argument is one more entry in SHAPES or OPTIONS.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import DISTANCES, FALLBACKS, KINDS, NEGATIVES, POSITIVES, REDUCTIONS, on_cuda_kernels
from torch import Tensor

import facenet_ext.ops  # noqa: F401  (registers the operators)
from facenet_ext._rule import RANDOM

pytest.importorskip("hypothesis")

from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = settings.default.max_examples  # of the profile, which may be "thorough"
OPERATORS = sorted(
    name.removeprefix("facenet_ext::")
    for name in torch._C._dispatch_get_registrations_for_dispatch_key("CPU")
    if name.startswith("facenet_ext::")
)
# M anchors, N candidates, D columns, T triplets.
MATRICES = {"x": "MD", "emb": "MD", "y": "ND", "ref_emb": "ND"}
LABELS = {"labels": "M", "ref_labels": "N", "anchor_ids": "M", "ref_ids": "N"}
INDICES = {"anchor": "M", "positive": "N", "negative": "N"}  # whose rows they are
OPTIONS: dict[str, tuple[Any, ...]] = {
    "positives": POSITIVES,
    "negatives": (*NEGATIVES, *RANDOM),
    "cutoff": (0.5, 0.1),
    "nonzero_loss_cutoff": (1.4, 2.0),
    "fallback": FALLBACKS,
    "distance": DISTANCES,
    "reduction": REDUCTIONS[:3],
    "triplets": KINDS,
    "loss": ("supcon", "ntxent"),
    "temperature": (0.07, 1.0, 1e-30),
    "low": ([0], [1], [2**29 + 2**23], [0, 2**30], [5, 2**29, 2**30]),
    "shift": (0, 14, 16),
    "bins": (1, 3, 5000),
    "k": (1, 2, 7, 48, 1024),
    "capacity": (0, 1, 3000),
}
EXTREMES = (-1, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**31), -(2**63))
FLOATING = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
OTHER_DTYPES = (*FLOATING, torch.int64, torch.int32, torch.uint8, torch.bool, torch.complex64)


@dataclasses.dataclass
class Call:
    operator: str
    arguments: dict[str, Any]
    mutations: list[str]

    def run(self) -> Any:
        return getattr(torch.ops.facenet_ext, self.operator)(*self.arguments.values())

    def tensors(self) -> list[Tensor]:
        return [value for value in self.arguments.values() if isinstance(value, Tensor)]

    def out_of_range(self) -> Tensor:
        """[T], which triplets have an index that is no row."""
        rows = {"M": len(self.arguments["emb"])}
        bank = self.arguments["ref_emb"]
        rows["N"] = rows["M"] if bank is None else len(bank)
        wrong = torch.zeros(len(self.arguments["anchor"]), dtype=torch.bool)
        for name, of in INDICES.items():
            index = self.arguments[name]
            wrong |= (index < 0) | (index >= rows[of])
        return wrong


# --- valid arguments, in memory of every kind ----------------------------------------------------


def put(draw: st.DrawFn, values: Tensor) -> Tensor:
    """The same values elsewhere in memory: steps, offsets, another order of dimensions."""
    how = draw(st.sampled_from(("as it is", "steps", "inside", "turned")))
    if how == "as it is" or values.numel() == 0:
        return values
    if how == "steps":
        wide = values.new_zeros([2 * size for size in values.shape])
        view = wide[tuple(slice(None, None, 2) for _ in values.shape)]
    elif how == "inside":
        wide = values.new_zeros([size + 3 for size in values.shape])
        view = wide[tuple(slice(1, 1 + size) for size in values.shape)]
    else:
        view = values.new_zeros(values.shape[::-1]).permute(*reversed(range(values.dim())))
    return view.copy_(values)


def matrix(draw: st.DrawFn, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    values = torch.randint(-3, 4, (rows, columns), generator=generator).to(dtype)
    if values.numel() and draw(st.integers(0, 3)) == 0:
        values[draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))] = draw(
            st.sampled_from((math.nan, math.inf, -math.inf, 6e4, 1e-7))
        )
    if rows and draw(st.integers(0, 9)) == 0:
        return values[:1].expand(rows, columns)
    return put(draw, values)


def integers(draw: st.DrawFn, size: int, low: int, high: int) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    return put(draw, torch.randint(low, high, (size,), generator=generator))


def labels(draw: st.DrawFn, size: int) -> Tensor:
    values = integers(draw, size, 0, draw(st.sampled_from((1, 2, 5, 2**40))))
    if size:
        values[draw(st.integers(0, size - 1))] = draw(st.sampled_from((0, *EXTREMES)))
    return values


def valid(draw: st.DrawFn, name: str, kind: str, sizes: dict[str, int], dtype: torch.dtype) -> Any:
    """A valid argument of this name, and for a name that is not known of its kind."""
    if name in MATRICES:
        return matrix(draw, *(sizes[size] for size in MATRICES[name]), dtype)
    if name in LABELS:
        return labels(draw, sizes[LABELS[name]])
    if name in INDICES:
        return integers(draw, sizes["T"], 0, max(sizes[INDICES[name]], 1))
    if name == "grad":
        value = torch.float64 if dtype == torch.float64 else torch.float32
        return put(draw, torch.ones(sizes["T"], dtype=value))
    if name in OPTIONS:
        return draw(st.sampled_from(OPTIONS[name]))
    if name == "seed":
        return integers(draw, 1, -(2**63), 2**63 - 1).reshape(draw(st.sampled_from(((), (1,)))))
    if name == "max_per_class":
        return draw(st.sampled_from((0, max(sizes["N"], 1), 2**40, 2**63 - 1)))
    if kind == "bool":
        return draw(st.booleans())
    if kind == "float":
        return draw(st.floats())
    raise NotImplementedError(f"{kind} {name}: say how to make one, in SHAPES or OPTIONS")


@st.composite
def calls(draw: st.DrawFn, operator: str) -> Call:
    sizes = {
        "M": draw(st.sampled_from((0, 1, 2, 5, 48, 50, 65))),
        "D": draw(st.sampled_from((0, 1, 3, 8, 17, 64))),
    }
    with_bank, with_ids = draw(st.booleans()), draw(st.booleans())
    sizes["N"] = draw(st.sampled_from((0, 1, 3, 49, 67))) if with_bank else sizes["M"]
    sizes["T"] = draw(st.sampled_from((0, 1, 9))) if sizes["M"] and sizes["N"] else 0
    dtype = draw(st.sampled_from(FLOATING))
    arguments: dict[str, Any] = {}
    for argument in getattr(torch.ops.facenet_ext, operator).default._schema.arguments:
        name, kind = argument.name, str(argument.type)
        there = name == "seed" or (with_bank and (with_ids or not name.endswith("ids")))
        if kind == "Optional[Tensor]" and not there:
            arguments[name] = None
        else:
            arguments[name] = valid(draw, name, kind, sizes, dtype)
    if "seed" in arguments and arguments["negatives"] not in RANDOM:
        arguments["seed"] = None
    return Call(operator, arguments, [])


# --- what is wrong with them ---------------------------------------------------------------------

Mutation = Callable[[st.DrawFn, Tensor], Any]
OF_TENSORS: dict[str, Mutation] = {
    "another dtype": lambda draw, t: t.to(draw(st.sampled_from(OTHER_DTYPES))),
    "a row more": lambda draw, t: torch.cat([t, t.new_ones(1, *t.shape[1:])]),
    "a row less": lambda draw, t: t[1:],
    "a column more": lambda draw, t: torch.cat([t, t], -1),
    "a dimension more": lambda draw, t: t.unsqueeze(draw(st.integers(0, t.dim()))),
    "no dimension": lambda draw, t: t.new_ones(()),
    "beyond every size": lambda draw, t: t.new_ones(1).expand(2**31, *t.shape[1:]),
    "too wide": lambda draw, t: t.new_ones(1, 1).expand(len(t) if t.dim() else 1, 2**40),
    "none": lambda draw, t: None,
    "sparse": lambda draw, t: t.to_sparse(),
    "on the meta device": lambda draw, t: t.to("meta"),
    "quantised": lambda draw, t: torch.quantize_per_tensor(t.float(), 0.1, 0, torch.qint8),
    "conjugated": lambda draw, t: t.to(torch.complex64).conj(),
    "negated": lambda draw, t: torch._neg_view(t),
    "with a gradient": lambda draw, t: t.detach().requires_grad_() if t.is_floating_point() else t,
    "overlapping": lambda draw, t: t.new_ones(t.numel() + 99).as_strided(t.shape, (1,) * t.dim()),
}
OF_OTHERS: dict[type, tuple[Any, ...]] = {
    str: ("nonsense", "", "mean\0", "all", "cosine", "ß"),
    float: (math.nan, math.inf, -math.inf, 1e308, 5e-324, -0.0),
    bool: (False, True),
    int: (*EXTREMES, 1, 2, 30),
    list: ([], [0, 0], [5, 1], [-1, 3], [2**62, 2**63 - 1], [*range(17)], [2**31], [2**31 - 1]),
}


@st.composite
def hostile_calls(draw: st.DrawFn, operator: str) -> Call:
    call = draw(calls(operator))
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(sorted(call.arguments)))
        value = call.arguments[name]
        if isinstance(value, Tensor) and value.numel() > 2**20:
            continue  # beyond every size already: anything more would copy it
        if isinstance(value, Tensor):
            kind = draw(st.sampled_from(sorted(OF_TENSORS)))
            try:
                call.arguments[name] = OF_TENSORS[kind](draw, value)
            except (RuntimeError, IndexError):
                continue  # not of what it has become
            call.mutations.append(f"{name} {kind}")
        elif value is not None:
            call.arguments[name] = draw(st.sampled_from(OF_OTHERS[type(value)]))
            call.mutations.append(f"{name} = {call.arguments[name]!r}")
    return call


# --- what comes of it ----------------------------------------------------------------------------


def assert_sound(call: Call, result: Any) -> None:
    """Shapes and dtypes are the fake operator's; indices are rows of what they select from."""
    outputs = result if isinstance(result, tuple) else (result,)
    if any(output.is_meta for output in outputs):
        return
    if call.operator == "select_triplets":
        y, z = call.arguments["labels"], call.arguments["ref_labels"]
        z = y if z is None else z
        a, p, n, d_ap, d_an = outputs
        assert a.shape == p.shape == n.shape == d_ap.shape == d_an.shape
        assert torch.equal(y[a], z[p])
        assert not (y[a] == z[n]).any()
        return
    bare = {k: v.to("meta") if isinstance(v, Tensor) else v for k, v in call.arguments.items()}
    fake = Call(call.operator, bare, []).run()
    for output, expected in zip(outputs, fake if isinstance(fake, tuple) else (fake,), strict=True):
        assert (output.shape, output.dtype) == (expected.shape, expected.dtype)


def run(call: Call) -> None:
    message = None
    try:
        result = call.run()
    except (RuntimeError, ValueError, TypeError) as error:  # NotImplementedError is the first
        message = str(error)
    except (AttributeError, IndexError):
        # A fake operator's, which is Python: of a shape that it read, or a tensor that is none.
        assert any(tensor.is_meta for tensor in call.tensors())
        return
    if message is None:
        assert_sound(call, result)
        return
    assert call.mutations, f"refused: {message}"
    if any(tensor.is_meta for tensor in call.tensors()):
        return  # the fake operator's error, which may be torch's
    named = any(re.search(rf"\b{name}\b", message) for name in call.arguments)
    assert named or "facenet_ext::" in message, message


@pytest.mark.parametrize("operator", OPERATORS)
def test_valid_arguments_in_memory_of_every_kind(operator: str) -> None:
    @settings(max_examples=2 * EXAMPLES)
    @given(calls(operator))
    def check(call: Call) -> None:
        run(call)

    check()


@pytest.mark.parametrize("operator", OPERATORS)
def test_hostile_arguments(operator: str) -> None:
    @settings(max_examples=6 * EXAMPLES)
    @given(hostile_calls(operator))
    def check(call: Call) -> None:
        run(call)

    check()


@pytest.mark.parametrize(
    "operator", [name for name in OPERATORS if name.startswith("triplet_loss")]
)
def test_an_index_that_is_no_row_is_never_read_from(operator: str) -> None:
    """The CPU says so. A GPU is not waited for: the loss is not a number, nor any gradient."""

    @settings(max_examples=2 * EXAMPLES)
    @given(calls(operator), st.data())
    def check(call: Call, data: st.DataObject) -> None:
        count = len(call.arguments["anchor"])
        if count == 0:
            return
        name = data.draw(st.sampled_from(sorted(INDICES)))
        index = call.arguments[name].clone()
        rows = sum(
            len(call.arguments[side])
            for side in ("emb", "ref_emb")
            if call.arguments[side] is not None
        )
        index[data.draw(st.integers(0, count - 1))] = data.draw(st.sampled_from((rows, *EXTREMES)))
        call.arguments[name] = index
        if not on_cuda_kernels():
            with pytest.raises(RuntimeError, match=rf"{name}: expected rows in \[0, \d+\), got "):
                call.run()
        elif operator == "triplet_losses":
            assert call.run()[call.out_of_range()].isnan().all()
        else:
            assert all(gradient.isnan().all() for gradient in call.run())

    check()


RULES = {
    "mined_triplet_loss": (
        *(None, "all", "semihard", 0.2, False, "farthest", "euclidean", 0.5, 1.4),
        *(0, False, "sum"),
    ),
    "triplet_margin_loss": ("all", 0.2, "euclidean", 0, False, "sum"),
    "softmax_loss": ("supcon", 0.1, False, "sum"),
}


@pytest.mark.parametrize("operator", RULES)
@pytest.mark.parametrize("emb_grad", [False, True])
def test_a_gradient_of_a_bank_that_is_not_there_is_empty(operator: str, emb_grad: bool) -> None:
    x, y = torch.randn(12, 5), torch.arange(12) // 3
    _, of_emb, of_bank, _ = getattr(torch.ops.facenet_ext, operator)(
        x, y, None, None, None, None, *RULES[operator], emb_grad, True
    )
    assert of_emb.shape == (12 if emb_grad else 0, 5)
    assert of_bank.shape == (0, 5)


def test_a_matrix_beyond_all_memory_fails_before_anything_is_read() -> None:
    with pytest.raises(RuntimeError):
        torch.ops.facenet_ext.pairwise_squared_distance(torch.empty(2**31 - 2000, 0), None)
