"""Claims about ``facenet harmonize``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told
from PIL import Image
from small_runs import TINY, write_faces

from facenet_ext.embedding.loading import load_embedder
from facenet_ext.train.harmonic import HarmonicModule, recognised

STEPS = ["--layer-steps", 2, "--steps", 3]


def test_both_stages_run_and_the_report_says_what_they_brought(
    command: Command, world: Path
) -> None:
    status, out, err = command(
        "harmonize", world / "old", "--new", world / "new", *STEPS, "--output", "out"
    )
    assert (status, err) == (0, "")
    figures = json.loads(Path("out/harmonic.json").read_text())
    assert set(figures["comparisons"]) == {
        "new against new",
        "new against old",
        "old against old",
        "new against old, before",
    }
    assert all(0 <= c["auc"] <= 1 for c in figures["comparisons"].values())
    assert set(figures["recognised_in_the_old_gallery"]) == {
        "old probes",
        "new probes, before",
        "new probes, after",
    }
    assert "faces are recognised in the old gallery" in out
    with Image.open("out/harmonic.png") as image:
        assert min(image.size) > 400

    new = load_embedder(world / "new" / "checkpoints" / "best.ckpt").network.state_dict()
    layer = load_embedder(Path("out/layer/checkpoints/last.ckpt")).network.state_dict()
    everything = load_embedder(Path("out/all/checkpoints/last.ckpt")).network.state_dict()
    features = [name for name in new if name.startswith("features")]
    assert all(torch.equal(layer[name], new[name]) for name in features)
    assert not torch.equal(layer["embedding.weight"], new["embedding.weight"])
    assert not all(torch.equal(everything[name], new[name]) for name in features)


def test_fewer_people_than_the_new_model_learned_from_are_enough(
    command: Command, world: Path, tmp_path: Path
) -> None:
    """And the same command goes on with what was fitted to them."""
    few = write_faces(tmp_path / "few", {f"Person_{i:02d}": 6 for i in range(5)})
    options = ["--new", world / "new", "--data", few, "--layer-steps", 1, "--steps", 1]
    for _ in range(2):
        status, out, err = command("harmonize", world / "old", *options, "--output", "out")
        assert (status, err) == (0, "")
        assert "fitted to 3 people with 2 images or more: --identities 3\n" in out


@pytest.mark.ci
def test_a_committee_is_replaced_by_one(command: Command, world: Path) -> None:
    """And its embeddings can be looked for in the old one's gallery, those of others cannot."""
    tiny = [*TINY, "--members", "2", "--held-out", "0.4", "--data", str(world / "faces")]
    assert command("train", *tiny, "--output", "old")[0] == 0
    status, _, err = command("harmonize", "old", *STEPS, "--output", "out")
    assert (status, err) == (0, "")
    first = load_embedder(Path("out/independent/checkpoints/last.ckpt")).network.state_dict()
    layer = load_embedder(Path("out/layer/checkpoints/last.ckpt")).network.state_dict()
    last = {name for name in first if "embedding" in name}
    assert len(last) == 2
    assert all(torch.equal(first[name], layer[name]) != (name in last) for name in first)
    faces = world / "faces"
    assert command("embed", faces, "--checkpoint", "old", "--output", "gallery")[0] == 0
    looked_for = ("identify", "gallery", faces, "--threshold", 4, "--json")
    status, out, _ = command(*looked_for, "--checkpoint", "out/all/checkpoints/last.ckpt")
    assert status == 0
    assert json.loads(out)["rates"]["known_probes"] == 52
    result = command(*looked_for, "--checkpoint", "out/independent/checkpoints/last.ckpt")
    assert_told(result, "facenet harmonize")
    odd = [*TINY, "--members", "3", "--held-out", "0.4", "--data", str(faces)]
    assert command("train", *odd, "--output", "three")[0] == 0
    result = command("harmonize", "old", "--new", "three", *STEPS, "--output", "other")
    assert_told(result, "has 3 members, among which the 16 numbers")


def test_without_a_new_model_one_is_trained_as_the_old_one_was(
    command: Command, world: Path
) -> None:
    status, _, err = command("harmonize", world / "old", *STEPS, "--output", "out")
    assert (status, err) == (0, "")
    independent = load_embedder(Path("out/independent/checkpoints/last.ckpt"))
    assert independent.options.run.seed == 2
    assert independent.options.data.data == str(world / "faces")


@pytest.mark.ci
def test_a_stopped_run_goes_on_to_the_same_result(
    command: Command, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["harmonize", world / "old", "--new", world / "new", *STEPS]
    assert command(*arguments, "--output", "straight")[0] == 0
    original = HarmonicModule.training_step

    def stop(self: HarmonicModule, batch: object, batch_idx: int) -> torch.Tensor:
        if not self.layer_only and self.global_step == 1:
            raise KeyboardInterrupt
        return original(self, batch, batch_idx)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(HarmonicModule, "training_step", stop)
        status, _, err = command(*arguments, "--output", "stopped")
    assert status == 130
    assert "give the same command again" in err
    assert command(*arguments, "--output", "stopped")[0] == 0
    a, b = (json.loads(Path(run, "harmonic.json").read_text()) for run in ("straight", "stopped"))
    assert a == b


def test_figures_that_few_pairs_cannot_measure_are_null(command: Command) -> None:
    labels = np.arange(60) // 5
    features = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    np.savez("f.npz", features=features, labels=labels)
    options = ["--data", "f.npz", "--max-steps", 2, "--width", 8, "--identities", 4]
    assert command("train", *options, "--embedding-dim", 4, "--output", "old")[0] == 0
    status, _, err = command("harmonize", "old", *STEPS, "--output", "out")
    assert (status, err) == (0, "")
    figures = json.loads(Path("out/harmonic.json").read_text())
    assert figures["comparisons"]["new against new"]["val_at_far_1e-2"] is None


def test_a_folder_begun_with_another_old_model_is_refused(command: Command, world: Path) -> None:
    arguments = [*STEPS, "--output", "out"]
    assert command("harmonize", world / "old", "--new", world / "new", *arguments)[0] == 0
    result = command("harmonize", world / "new", "--new", world / "old", *arguments)
    assert_told(result, "--output out: was begun with another old model")
    Path("taken").write_text("")
    taken = command("harmonize", world / "old", "--new", world / "new", "--output", "taken")
    assert_told(taken, "--output taken: cannot be used")
    Path("foreign").mkdir()
    Path("foreign/models.json").write_text("[]")
    foreign = command("harmonize", world / "old", "--new", world / "new", "--output", "foreign")
    assert_told(foreign, "--output foreign: its models.json is not this command's")


def test_faces_are_counted_against_the_first_image_of_each() -> None:
    gallery = torch.tensor([[0.0, 0.0], [9.0, 9.0], [5.0, 0.0], [9.0, 9.0]])
    probes = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.0], [1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert recognised(probes, gallery, labels) == (1, 2)


def test_bad_input_is_told_in_a_line(command: Command, world: Path) -> None:
    assert_told(command("harmonize", "nowhere"), "nowhere: no such checkpoint")
    assert_told(command("harmonize", world / "old", "--steps", 0), "steps")
    arguments = ["harmonize", world / "old", "--new", world / "new", "--layer-steps", 2]
    assert command(*arguments, "--steps", 1, "--output", "out")[0] == 0
    assert_told(
        command(*arguments, "--steps", 1, "--lr", 0.5, "--output", "out"),
        "layer/ was begun with other options",
    )
