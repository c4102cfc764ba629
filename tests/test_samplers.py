"""Claims about the batches of P identities with K images."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader

from facenet_ext.samplers import MPerClassSampler, _draw, cut, derive_seed

# Classes 0 to 4 have 5, 4, 3, 2 and 2 images; classes 5 to 9 have one.
LABELS = [0] * 5 + [1] * 4 + [2] * 3 + [3] * 2 + [4] * 2 + [5, 6, 7, 8, 9]


@given(
    m=st.integers(1, 7),
    classes=st.integers(1, 5),
    negatives=st.integers(0, 5),
    copies=st.integers(1, 3),
    seed=st.integers(0, 2**40),
)
def test_a_batch_is_p_classes_of_k_images_and_the_negatives(
    m: int, classes: int, negatives: int, copies: int, seed: int
) -> None:
    sampler = MPerClassSampler(
        LABELS, m, classes, negatives=negatives, negative_copies=copies, seed=seed, batches=3
    )
    for batch in sampler:
        labels = [LABELS[row] for row in batch]
        counts = Counter(labels)
        assert sorted(counts[label] for label in counts if label < 5) == [m] * classes
        assert [counts[label] for label in counts if label >= 5] == [copies] * negatives
        # The images of a class, and of a negative, are beside each other.
        assert len([*groupby(labels)]) == len(counts)


def test_images_repeat_only_when_a_class_has_too_few() -> None:
    for batch in MPerClassSampler(LABELS, m=4, classes=5, batches=20):
        for label, rows in Counter(LABELS[row] for row in batch).items():
            images = Counter(row for row in batch if LABELS[row] == label)
            assert rows == 4
            assert max(images.values()) == (1 if label < 2 else 2)


def test_single_images_become_classes_of_their_own_with_min_images_1() -> None:
    sampler = MPerClassSampler(LABELS, m=2, classes=10, min_images=1)
    assert {LABELS[row] for row in next(iter(sampler))} == set(range(10))


def test_a_pass_shows_as_many_images_as_the_classes_have() -> None:
    assert len(MPerClassSampler(LABELS, m=2, classes=2)) == 4  # 16 images, 4 per batch
    assert len(list(MPerClassSampler(LABELS, m=2, classes=2))) == 4


def test_continuing_from_a_position_gives_the_rest_of_the_batches() -> None:
    def batches(start: int) -> list[list[int]]:
        return list(MPerClassSampler(LABELS, 2, 3, batches=10, negatives=2, seed=7, start=start))

    assert batches(4) == batches(0)[4:]
    assert len(MPerClassSampler(LABELS, 2, 3, batches=10, start=4)) == 10


def test_every_pass_shows_other_batches() -> None:
    sampler = MPerClassSampler(LABELS, 2, 3, batches=5, seed=7)
    both = list(sampler) + list(sampler)
    assert both == list(MPerClassSampler(LABELS, 2, 3, batches=10, seed=7))
    assert both[:5] != both[5:]
    assert both[8:] == list(MPerClassSampler(LABELS, 2, 3, batches=5, seed=7, start=8))


def test_the_seed_alone_chooses_the_batches() -> None:
    torch.manual_seed(1)
    first = list(MPerClassSampler(LABELS, 2, 3, batches=5, seed=3))
    torch.manual_seed(2)
    assert first == list(MPerClassSampler(LABELS, 2, 3, batches=5, seed=3))
    assert first != list(MPerClassSampler(LABELS, 2, 3, batches=5, seed=4))


@pytest.mark.parametrize(("cap", "ratio"), [(1, 1.0), (8, 2.0), (100, 4.0)])
def test_the_size_cap_sets_how_much_more_often_large_classes_come(cap: int, ratio: float) -> None:
    labels = [0] * 16 + [1] * 4
    sampler = MPerClassSampler(labels, m=1, classes=1, batches=4000, size_cap=cap)
    drawn = Counter(labels[batch[0]] for batch in sampler)
    assert drawn[0] / drawn[1] == pytest.approx(ratio, rel=0.15)


def test_labels_may_be_a_tensor_of_any_integer_dtype() -> None:
    for dtype in (torch.int64, torch.int32, torch.uint8):
        labels = torch.tensor(LABELS, dtype=dtype)
        assert list(MPerClassSampler(labels, 2, 2)) == list(MPerClassSampler(LABELS, 2, 2))


def test_the_repr_shows_the_options() -> None:
    text = repr(MPerClassSampler(LABELS, m=2, classes=3, negatives=1, seed=5))
    assert "m=2, classes=3 of 5" in text
    assert "negatives=1 of 5" in text
    assert "seed=5" in text


# --- the parts of many processes -----------------------------------------------------------------

SHAPES: dict[str, dict[str, Any]] = {
    "classes": {"m": 3, "classes": 5},
    "one class": {"m": 4, "classes": 1},
    "negatives": {"m": 2, "classes": 3, "negatives": 5},
    "copies": {"m": 1, "classes": 1, "negatives": 3, "negative_copies": 3},
    "unequal classes": {"m": 5, "classes": 4, "repeat": False, "negatives": 1},
    "filled up": {"m": 2, "classes": 2, "batch_size": 9},
}


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_parts_of_all_ranks_are_the_batch_of_one_process(
    shape: dict[str, Any], world_size: int
) -> None:
    def batches(**part: int) -> list[list[int]]:
        return list(MPerClassSampler(LABELS, **shape, batches=40, seed=3, **part))

    parts = [batches(rank=rank, world_size=world_size) for rank in range(world_size)]
    whole = batches()
    assert [[*chain(*of_ranks)] for of_ranks in zip(*parts, strict=True)] == whole
    for of_ranks in zip(*parts, strict=True):
        labels = [{LABELS[row] for row in part} for part in of_ranks]
        assert sum(map(len, labels)) == len(set().union(*labels))  # whole classes
        if len(set().union(*labels)) >= world_size:
            assert all(of_ranks)


@pytest.mark.parametrize("world_size", [2, 3, 4, 5, 7])
def test_each_rank_gets_its_share_of_the_single_images(world_size: int) -> None:
    labels = [*chain.from_iterable([c] * 4 for c in range(40)), *range(40, 100)]
    for position in range(3):
        of_ranks = [
            MPerClassSampler(labels, 4, 20, negatives=50, rank=rank, world_size=world_size).batch(
                position
            )
            for rank in range(world_size)
        ]
        singles = [sum(labels[row] >= 40 for row in part) for part in of_ranks]
        assert sum(singles) == 50
        assert max(singles) - min(singles) <= 4  # a class has 2 or 3 behind it


@given(sizes=st.lists(st.integers(1, 40), max_size=30), parts=st.integers(1, 12))
def test_a_cut_is_no_farther_from_equal_parts_than_a_class(sizes: list[int], parts: int) -> None:
    groups = [[number] * size for number, size in enumerate(sizes)]
    pieces = cut(groups, parts)
    assert [*chain(*pieces)] == [*chain(*groups)]
    assert len(pieces) == parts
    assert len(sizes) < parts or all(pieces)
    if parts * max(sizes, default=1) <= len(sizes):
        equal = sum(sizes) / parts
        assert all(abs(len(piece) - equal) <= max(sizes) for piece in pieces)


def test_a_run_continues_with_another_number_of_processes() -> None:
    def rest(start: int, world_size: int) -> list[list[int]]:
        parts = [
            MPerClassSampler(
                LABELS, 2, 3, negatives=2, batches=9, start=start, rank=rank, world_size=world_size
            )
            for rank in range(world_size)
        ]
        return [[*chain(*of_ranks)] for of_ranks in zip(*parts, strict=True)]

    assert rest(0, 2)[:4] + rest(4, 3) == rest(0, 1)


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_loader_takes_the_part_of_a_rank_as_either_sampler(world_size: int) -> None:
    for rank in range(world_size):

        def make(rank: int = rank) -> MPerClassSampler:
            part = {"rank": rank, "world_size": world_size}
            return MPerClassSampler(LABELS, 2, 3, negatives=2, batches=5, seed=3, **part)

        expected = list(make())
        (rows,) = {len(batch) for batch in expected}
        for loader in (
            DataLoader(ROWS, batch_sampler=make()),
            DataLoader(ROWS, sampler=make(), batch_size=rows),
        ):
            assert len(loader) == 5
            assert [batch.tolist() for batch in loader] == expected
        with pytest.raises(ValueError, match=f"batch_size=8: expected {rows}"):
            next(iter(DataLoader(ROWS, sampler=make(), batch_size=8)))


# --- in a DataLoader, whose items are the row numbers ---------------------------------------------

ROWS = torch.arange(len(LABELS))
LOADERS: dict[str, Callable[[MPerClassSampler], Iterable[Tensor]]] = {
    "batch_sampler": lambda sampler: DataLoader(ROWS, batch_sampler=sampler),
    "sampler": lambda sampler: DataLoader(ROWS, sampler=sampler, batch_size=6),
    "sampler, drop_last": lambda s: DataLoader(ROWS, sampler=s, batch_size=6, drop_last=True),
    "sampler, no batches": lambda sampler: DataLoader(ROWS, sampler=sampler, batch_size=None),
}
SAMPLERS: dict[str, Callable[[], MPerClassSampler]] = {
    "classes": lambda: MPerClassSampler(LABELS, 2, 3, batches=5),
    "batch_size": lambda: MPerClassSampler(LABELS, 2, batch_size=6, batches=5),
    "negatives": lambda: MPerClassSampler(LABELS, 2, 2, negatives=1, negative_copies=2, batches=5),
    "filled up": lambda: MPerClassSampler(LABELS, 2, 1, batch_size=6, batches=5),
}


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_a_loader_takes_it_as_either_sampler(
    make: Callable[[], MPerClassSampler], load: Callable[[MPerClassSampler], Any]
) -> None:
    loader, expected = load(make()), make()
    assert len(loader) == 5
    for _ in range(2):
        assert [batch.tolist() for batch in loader] == list(expected)


@pytest.mark.parametrize("given", ["batch_sampler", "sampler"])
def test_workers_do_not_skip_a_pass(given: str) -> None:
    """A loader with workers asks for two iterators, and uses one."""
    options = {"batch_size": 6} if given == "sampler" else {}
    options |= {given: SAMPLERS["classes"](), "num_workers": 1, "persistent_workers": True}
    loader, expected = DataLoader(ROWS, **options), SAMPLERS["classes"]()
    for _ in range(2):
        assert [batch.tolist() for batch in loader] == list(expected)


def test_what_wraps_batches_or_leaves_them_to_an_iterator() -> None:
    """As accelerate's BatchSamplerShard, and as torchdata's BatchSampler."""

    class Shard(BatchSampler):
        def __init__(self, batch_sampler: MPerClassSampler) -> None:
            self.batch_sampler = batch_sampler

        def __iter__(self) -> Iterator[list[int]]:
            return iter(batch for batch in self.batch_sampler)

    class Joined:
        def __init__(self, sampler: Any, batch_size: int) -> None:
            self.sampler = sampler
            self.rows = list(self.sampler)

    class Deferring(BatchSampler):
        def __iter__(self) -> Any:
            return iter([Joined(self.sampler, self.batch_size).rows])

    batches = list(SAMPLERS["classes"]())
    assert list(iter(Shard(SAMPLERS["classes"]()))) == batches
    assert list(Deferring(SAMPLERS["classes"](), 6, False)) == [[*chain(*batches)]]


@pytest.mark.parametrize(
    ("options", "batch_size", "told"),
    [
        ({"classes": 3}, 1, r"batch_size=1: expected 6, .*sampler=sampler, batch_size=6\) or .*"),
        ({"batch_size": 6}, 12, r"batch_size=12: expected 6, .*batch_sampler=sampler\)"),
        ({"classes": 2, "negatives": 1}, 4, "batch_size=4: expected 5"),
        ({"classes": 2, "repeat": False}, 4, r"differ in size; .*batch_sampler=sampler\)"),
    ],
)
def test_other_batches_of_a_loader_are_refused(
    options: dict[str, Any], batch_size: int, told: str
) -> None:
    loader = DataLoader(ROWS, sampler=MPerClassSampler(LABELS, 2, **options), batch_size=batch_size)
    with pytest.raises(ValueError, match=told):
        next(iter(loader))
    with pytest.raises(ValueError, match=told):
        len(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 6}, "classes=6 needs that many classes with 2 images or more, there are 5"),
        ({"negatives": 6}, "negatives=6 needs .* there are 5"),
        ({"classes": None}, "classes or batch_size: expected one of them, got neither"),
        ({"classes": None, "batch_size": 5}, "batch_size=5: expected a multiple of m=2"),
        ({"classes": None, "batch_size": 12}, "classes=batch_size/m=6 needs .* there are 5"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"m": 0}, "m must be at least 1"),
        ({"classes": 0}, "classes must be at least 1"),
        ({"batches": 0}, "batches must be at least 1"),
        ({"min_images": 0}, "min_images must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"size_cap": 0}, "size_cap must be at least 1"),
        ({"world_size": 0}, "world_size must be at least 1"),
        ({"rank": -1}, "rank must be at least 0"),
        ({"rank": 2, "world_size": 2}, "rank must be below world_size=2, got 2"),
    ],
)
def test_bad_options_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MPerClassSampler(LABELS, **({"m": 2, "classes": 2} | options))


def test_bad_labels_raise() -> None:
    with pytest.raises(TypeError, match="integers"):
        MPerClassSampler(torch.rand(8), 2, 2)
    with pytest.raises(ValueError, match="1-D"):
        MPerClassSampler(torch.zeros(4, 2, dtype=torch.int64), 2, 2)
    with pytest.raises(ValueError, match="there are 0"):
        MPerClassSampler([], 2, 2)


def test_derived_seeds_differ_and_are_the_same_everywhere() -> None:
    seeds = {derive_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert derive_seed(0, 1, 2) == 3071860871404845570


def test_classes_are_drawn_as_multinomial_draws_them_without_its_limit() -> None:
    for seed in range(20):
        weights = torch.randint(1, 9, (50,), generator=torch.manual_seed(seed)).double()
        both = torch.manual_seed(seed), torch.Generator().manual_seed(seed)
        expected = torch.multinomial(weights, 7, generator=both[0]).tolist()
        assert _draw(weights, 7, both[1]) == expected
        assert torch.equal(both[0].get_state(), both[1].get_state())
    many = torch.zeros(2**24 + 1)
    many[-2:] = 1.0
    assert set(_draw(many, 2, torch.manual_seed(0))) == {2**24 - 1, 2**24}
