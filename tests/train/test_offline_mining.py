"""Claims about offline mining in a run, and about batches like the paper's."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from small_runs import Facenet
from test_resume import EVERYTHING, assert_same, interrupt_before, last

from facenet_ext.data.examples import Examples
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.examples import embed_to_file
from facenet_ext.embedding.options import ModelOptions, Options
from facenet_ext.mining import read_triplets
from facenet_ext.samplers import MPerClassSampler
from facenet_ext.train.data import MinedTriplets

MINING = [*EVERYTHING, "--mine-every", 3, "--mined-triplets", 4, "--mine-negatives", "hardest"]


def test_a_run_searches_every_n_steps_and_says_so(facenet: Facenet, faces: Path) -> None:
    status, out, err = facenet(*MINING, "--data", faces, "--output", "run")
    assert (status, err) == (0, "")
    # Not after the last step, which nothing would learn from.
    assert [path.name for path in sorted(Path("run/mined").glob("*.parquet"))] == [
        "step-0000003.parquet",
        "step-0000006.parquet",
    ]
    assert out.count(": mined ") == 2
    found = read_triplets(Path("run/mined/step-0000003.parquet"))
    assert len(found.anchor) > 0


def test_mined_triplets_change_what_is_learned(facenet: Facenet, faces: Path) -> None:
    assert facenet(*EVERYTHING, "--data", faces, "--output", "plain")[0] == 0
    assert facenet(*MINING, "--data", faces, "--output", "mined")[0] == 0
    weight = "network.members.0.embedding.weight"
    assert not torch.equal(last("plain")["state_dict"][weight], last("mined")["state_dict"][weight])


def test_triplets_are_mined_of_what_the_network_returns(tmp_path: Path) -> None:
    """The loss sees that, and not what the head makes of it."""
    model = ModelOptions(width=4, stages=(1, 1), embedding_dim=8, wccn=True, cohort=3)
    embedder = Embedder(Options(model=model), (1, 16, 16)).eval()
    images = torch.randint(256, (5, 1, 16, 16), dtype=torch.uint8)
    examples = Examples(images, torch.arange(5))
    rows = np.array([4, 0, 2])
    found = embed_to_file(embedder, examples, rows, tmp_path / "rows.npy", lambda *_: None)
    torch.testing.assert_close(
        torch.from_numpy(found.copy()), embedder.embed(images, "network")[rows]
    )


# Before the first search, at the step after it, just before the second, and in the last.
@pytest.mark.parametrize("step", [3, *(pytest.param(s, marks=pytest.mark.ci) for s in (1, 5, 8))])
def test_a_run_that_was_stopped_continues_with_the_same_triplets(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    options = [*MINING, "--data", faces, "--mine-subset", 20]
    assert facenet(*options, "--output", "straight")[0] == 0
    with monkeypatch.context() as patch:
        interrupt_before(step, patch)
        assert facenet(*options, "--output", "stopped")[0] == 130
    assert facenet("--resume", "stopped", tiny=False)[0] == 0
    assert_same(last("straight")["state_dict"], last("stopped")["state_dict"])


def test_a_run_that_continues_from_before_a_search_searches_anew(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_before(4, patch)
        assert facenet(*MINING, "--data", faces, "--output", "run")[0] == 130
    early = Path("run/checkpoints/early.ckpt")
    shutil.copy("run/checkpoints/last.ckpt", early)
    assert facenet("--resume", "run", tiny=False)[0] == 0
    found = Path("run/mined/step-0000006.parquet")
    first = read_triplets(found)
    again = facenet("--resume", early, "--lr", 0.3, "--mine-negatives", "semihard", tiny=False)
    assert again[0] == 0
    assert (read_triplets(found).d_an > read_triplets(found).d_ap).all()
    assert (first.d_an <= first.d_ap).any()


def test_the_first_search_waits_for_its_start(facenet: Facenet, faces: Path) -> None:
    assert facenet(*MINING, "--mine-start", 5, "--data", faces, "--output", "run")[0] == 0
    names = [path.stem for path in sorted(Path("run/mined").glob("*.parquet"))]
    assert names == ["step-0000005", "step-0000008"]


def test_what_joins_a_batch_depends_on_its_position_alone() -> None:
    triplets = torch.arange(60).reshape(20, 3)
    mined = MinedTriplets(triplets, 5, seed=3)
    drawn = mined.draw(7)
    assert drawn == MinedTriplets(triplets, 5, seed=3).draw(7)
    assert drawn != mined.draw(8)
    assert len(drawn) == 15
    assert len({row // 3 for row in drawn}) == 5
    assert all(drawn[i + 1] == drawn[i] + 1 for i in range(0, 15, 3))
    assert len(MinedTriplets(triplets[:2], 5, seed=3).draw(0)) == 6
    assert MinedTriplets(triplets[:0], 5, seed=3).draw(0) == []


def test_micro_batches_learn_what_whole_batches_do(facenet: Facenet, faces: Path) -> None:
    options = ["--data", faces, "--held-out", 0.4, "--dropout", 0, "--model", "nns2"]
    # AdamW's first steps are the signs of gradients, of which rounding decides the smallest.
    small = ["--input-size", 32, "--images-per-identity", 4, "--optimizer", "sgd", "--lr", 0.1]
    for output, size in (("whole", "null"), ("split", 5)):
        run = [*options, *small, "--micro-batch", size, "--output", output]
        assert facenet(*run)[0] == 0
    whole, split = last("whole")["state_dict"], last("split")["state_dict"]
    for name in whole:
        torch.testing.assert_close(split[name], whole[name], rtol=1e-4, atol=1e-6)


def test_the_papers_batch_has_what_identities_have_and_is_filled_with_negatives() -> None:
    labels = [0] * 50 + [1] * 9 + [2] * 2 + list(range(3, 100))
    sampler = MPerClassSampler(
        labels, m=40, classes=3, repeat=False, size_cap=40, batch_size=100, batches=5, seed=1
    )
    for batch in sampler:
        assert len(batch) == len(set(batch)) == 100
        counts = Counter(labels[row] for row in batch)
        assert (counts[0], counts[1], counts[2]) == (40, 9, 2)
        assert sum(count == 1 for count in counts.values()) == 49


def test_a_batch_smaller_than_its_classes_has_no_negatives() -> None:
    sampler = MPerClassSampler([0, 0, 1, 1, 2, 3], m=2, classes=2, batch_size=3)
    assert sorted(sampler.batch(0)) == [0, 1, 2, 3]


def test_a_pass_without_repetition_counts_what_is_shown() -> None:
    assert len(MPerClassSampler([0, 0, 1, 1, 2, 2], m=40, classes=1, repeat=False)) == 3


@pytest.mark.ci
@pytest.mark.parametrize("rule", ["random_semihard", "random_violating", "distance_weighted"])
def test_random_negatives_resume_to_the_same_result(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    options = [*EVERYTHING, "--data", faces, "--negative-rule", rule]
    assert facenet(*options, "--output", "straight")[0] == 0
    with monkeypatch.context() as patch:
        interrupt_before(4, patch)
        assert facenet(*options, "--output", "stopped")[0] == 130
    assert facenet("--resume", "stopped", tiny=False)[0] == 0
    assert_same(last("straight")["state_dict"], last("stopped")["state_dict"])
