"""Claims about ``facenet train --distil``: one network, one view, the teacher's embeddings."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from command_runs import Command, assert_told
from small_runs import TINY, write_faces
from test_resume import assert_same, interrupt_before, last

from facenet_ext.cli.train_options import parse
from facenet_ext.common.errors import InputError
from facenet_ext.data.images import read_image
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.folders import CONFIG
from facenet_ext.embedding.loading import checkpoint_path, file_hash, load_embedder, read_facts
from facenet_ext.embedding.options import (
    AugmentationOptions,
    BatchOptions,
    DataOptions,
    DistillationOptions,
    ModelOptions,
    Options,
    dump,
    read_options,
)
from facenet_ext.evaluation.held_out import read_names
from facenet_ext.models import Head
from facenet_ext.train.distillation import DistilledModule, one_view
from facenet_ext.train.draws import Rows

SIZE = 20
OPTIONS = Options(
    data=DataOptions(image_size=SIZE, input_size=SIZE, test_shift=0.1),
    augmentation=AugmentationOptions(flip=True),
    model=ModelOptions(width=4, stages=(1, 1), embedding_dim=8, members=2),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of faces."""
    people = {f"Person_{i:02d}": 4 for i in range(12)}
    return write_faces(tmp_path_factory.mktemp("place") / "faces", people).parent


@pytest.fixture
def teacher(command: Command, place: Path) -> Path:
    """A committee of two with eighteen views, in ``teacher/``."""
    views = ["--members", 2, "--flip", "true", "--test-shift", 0.1, "--noise", 0.1]
    views += ["--wccn", "true", "--cohort", 3]
    arguments = [*TINY, *views, "--data", place / "faces", "--held-out", 0.4, "--seed", 3]
    status, _, err = command("train", *arguments, "--output", "teacher")
    assert (status, err) == (0, "")
    return Path("teacher")


def test_what_is_drawn_are_the_views_that_an_embedding_is_the_mean_of() -> None:
    teacher = Embedder(OPTIONS, (1, SIZE, SIZE))
    images = torch.randint(256, (1, 1, SIZE, SIZE), dtype=torch.uint8)
    seen: list[torch.Tensor] = []
    teacher.network.forward = lambda x: seen.append(x) or x.flatten(1)  # type: ignore
    teacher(images)
    assert len(seen) == 18
    repeated = teacher.prepare(images).expand(1000, -1, -1, -1)
    drawn = one_view(teacher, repeated, Rows(0, 1000, 1000))
    differences = (drawn - torch.stack(seen)[:, 0, None]).abs().amax((2, 3, 4))  # [18, 1000]
    assert differences.amin(0).max() < 1e-5, "each is one of them"
    counts = (differences < 1e-5).sum(1)
    assert 20 < counts.min() <= counts.max() < 95, "and they are equally frequent"


def test_sequences_are_drawn_running_backwards() -> None:
    options = dataclasses.replace(OPTIONS, model=ModelOptions("conv1d", width=8, stages=(1, 1)))
    teacher = Embedder(options, (2, 16))
    inputs = torch.randn(100, 2, 16)
    drawn = one_view(teacher, inputs, Rows(0, 100, 100))
    backwards = (drawn == inputs.flip(2)).flatten(1).all(1)
    assert 30 < backwards.sum() < 70
    assert torch.equal(drawn[~backwards], inputs[~backwards])
    plain = dataclasses.replace(options, augmentation=AugmentationOptions())
    assert torch.equal(one_view(Embedder(plain, (2, 16)), inputs, Rows(0, 100, 100)), inputs)


def test_the_views_of_a_part_are_those_of_the_batch() -> None:
    teacher, inputs = Embedder(OPTIONS, (1, SIZE, SIZE)), torch.rand(10, 1, SIZE, SIZE)
    torch.manual_seed(0)
    whole = one_view(teacher, inputs, Rows(0, 10, 10))
    torch.manual_seed(0)
    assert torch.equal(one_view(teacher, inputs[3:7], Rows(3, 7, 10)), whole[3:7])


def test_the_loss_is_the_triplets_and_the_weighted_squared_distance() -> None:
    views = dataclasses.replace(OPTIONS.data, test_shift=0.0)
    options = dataclasses.replace(OPTIONS, data=views, augmentation=AugmentationOptions())
    teacher = Embedder(options, (1, SIZE, SIZE))
    one = dataclasses.replace(
        options,
        model=dataclasses.replace(options.model, members=1, embedding_dim=16),
        batch=BatchOptions(micro_batch=4),
        distillation=DistillationOptions(distil_weight=0.7),
    )
    module = DistilledModule(one, (1, SIZE, SIZE), 1, teacher=teacher, teacher_checkpoint="a hash")
    inputs = torch.rand(6, 1, SIZE, SIZE)
    embeddings = torch.randn(6, 16, requires_grad=True)
    loss = module.further_loss(inputs, embeddings, Rows(0, 6, 6))
    with torch.no_grad():
        distances = (embeddings - teacher.eval().network(inputs)).square().sum(1)
    torch.testing.assert_close(loss, 0.7 * distances.mean())
    assert not [name for name in module.state_dict() if "teacher" in name]
    assert all(p.grad is None for p in teacher.parameters())


def test_fisher_vectors_are_taken_over_and_have_fewer_patches() -> None:
    size, shape = 32, (1, 32, 32)
    data = dataclasses.replace(OPTIONS.data, image_size=size, input_size=size)
    model = dataclasses.replace(OPTIONS.model, fisher=4)
    teacher = Embedder(dataclasses.replace(OPTIONS, data=data, model=model), shape)
    for buffer in teacher.head.fisher.buffers():  # type: ignore[union-attr]
        buffer.uniform_(0.1, 1)
    one = dataclasses.replace(model, members=1, embedding_dim=16, fisher_step=2)
    view = dataclasses.replace(data, test_shift=0.0, test_flip=False)
    options = dataclasses.replace(OPTIONS, data=view, model=one)

    def made(options: Options) -> DistilledModule:
        return DistilledModule(options, shape, 1, teacher=teacher, teacher_checkpoint="a hash")

    own, theirs = made(options).head.fisher, teacher.head.fisher
    assert own is not None
    assert theirs is not None
    assert_same(own.state_dict(), theirs.state_dict())
    images = torch.rand(2, *shape)
    found, wanted = own.reduced(images), theirs.reduced(images)
    assert (len(found), len(wanted)) == (1, 2)
    assert found[0].shape[1] < 0.4 * wanted[0].shape[1]
    other = dataclasses.replace(options, model=dataclasses.replace(one, fisher=5))
    with pytest.raises(InputError, match="`fisher` 5: the model to learn from has 4"):
        made(other)


def test_a_network_begins_as_the_first_member_of_the_committee() -> None:
    shape, images = (1, SIZE, SIZE), torch.rand(5, 1, SIZE, SIZE)
    teacher = Embedder(OPTIONS, shape)
    for parameter in teacher.network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)

    def made(**changed: object) -> DistilledModule:
        one = dataclasses.replace(OPTIONS.model, members=1, embedding_dim=16, **changed)
        options = dataclasses.replace(OPTIONS, model=one)
        return DistilledModule(options, shape, 1, teacher=teacher, teacher_checkpoint="a hash")

    module = made()
    first = teacher.network.members[0]  # type: ignore[union-attr]
    with torch.no_grad():
        own, wanted = module.eval().network(images), first(images)
    torch.testing.assert_close(own, torch.cat([wanted, torch.zeros(5, 8)], 1))
    assert made(width=6).network.embedding_dim == 16, "another one begins at random"


def test_one_network_learns_in_one_view_what_the_committee_embeds_in_many(
    command: Command, teacher: Path, place: Path
) -> None:
    """And takes its place: as the latest run, and in a gallery of its embeddings."""
    faces = place / "faces"
    arguments = ["train", "--distil", teacher, "--max-steps", 60, "--lr", 0.01, "--evaluations", 1]
    old = load_embedder(checkpoint_path("teacher"))
    paths = sorted(faces.glob("*/*.png"))
    images = torch.stack([read_image(path, 96, 1) for path in paths])
    head = old.head.state_dict()
    old.head = Head(None, None, None, 16)  # it makes few dimensions count more
    wanted = old.embed(images)
    distances = {}
    for run, weight in (("alone", 1e-9), ("runs/one", 1)):
        status, out, err = command(*arguments, "--distil-weight", weight, "--output", run)
        assert (status, err) == (0, "")
        student = load_embedder(checkpoint_path(run))
        assert_same(student.head.state_dict(), head)
        assert torch.equal(student.embed(images), student.embed(images, "one"))
        embeddings = student.embed(images, "network")
        distances[run] = (embeddings - wanted).square().sum(1).mean().item()
    assert distances["alone"] > 1.5, "embeddings at random are 2 apart"
    assert distances["runs/one"] < 0.2
    figures = json.loads(Path("runs/one/distilled.json").read_text())
    for name, folder in (("teacher", "teacher"), ("distilled", "runs/one")):
        kept = read_facts(checkpoint_path(folder))["evaluation"]["accuracy"]["mean"]
        assert figures[name]["accuracy"] == pytest.approx(kept), name
    faster = figures["distilled"]["examples_per_second"] / figures["teacher"]["examples_per_second"]
    assert f"{faster:.3g} times as many\n" in out
    assert faster > 5, "one network and one view, of two and 18"
    assert student.matches == file_hash(checkpoint_path("teacher"))
    assert command("embed", faces, "--checkpoint", teacher, "--output", "gallery")[0] == 0
    status, out, _ = command("identify", "gallery", faces, "--far", 0.5, "--json")
    figures = json.loads(out)
    assert status == 0
    assert figures["rates"]["known_probes"] == 48
    assert "runs/one/" in json.loads(command("verify", *paths[:2], "--json")[1])["evaluation"]


def test_the_options_are_the_teachers_but_for_one_network_and_one_view(tmp_path: Path) -> None:
    model = dataclasses.replace(OPTIONS.model, aligned_size=(12, 8), dropout=0.4)
    run = dataclasses.replace(OPTIONS.run, output="somewhere", max_minutes=3.0, max_steps=77)
    config = tmp_path / CONFIG
    loss = dataclasses.replace(OPTIONS.loss, loss=("supcon", "triplet"))
    config.write_text(dump(dataclasses.replace(OPTIONS, model=model, loss=loss, run=run)))
    options, _, given = parse(["--distil", str(tmp_path), "--width", "6"], "train")
    differing = {"members", "embedding_dim", "dropout", "width", "test_shift", "test_flip"}
    differing |= {"fisher_step", "output", "max_minutes", "distil", "loss"}
    flat, theirs = options.flat(), read_options(config).flat()
    assert {name for name in flat if flat[name] != theirs[name]} == differing
    assert (flat["members"], flat["embedding_dim"], flat["width"]) == (1, 16, 6)
    assert flat["loss"] == "triplet"
    assert (flat["test_shift"], flat["test_flip"], flat["flip"]) == (0.0, False, True)
    assert given == {"distil", "width"}


def test_people_held_out_are_those_of_the_teacher(
    command: Command, teacher: Path, place: Path
) -> None:
    """It has learned from all the others, also if the folder has more people by then."""
    faces = write_faces(Path("faces"), {f"Person_{i:02d}": 4 for i in range(12)})
    assert command("train", *TINY, "--data", faces, "--output", "first")[0] == 0
    write_faces(faces, {f"Another_{i:02d}": 4 for i in range(12)})
    for run, more in (("same", []), ("new", ["--held-out", 0.3])):
        assert command("train", "--distil", "first", *more, "--output", run)[0] == 0
    held = read_names(Path("first"))
    assert read_names(Path("same")) == held != read_names(Path("new"))
    other = write_faces(Path("other"), {f"Else_{i:02d}": 4 for i in range(12)})
    assert command("train", "--distil", "first", "--data", other, "--output", "else")[0] == 0
    assert not held & read_names(Path("else"))  # type: ignore[operator]


def test_a_stopped_run_goes_on_to_the_same_result(
    command: Command, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", "--distil", teacher, "--max-steps", 6]
    assert command(*arguments, "--output", "straight")[0] == 0
    with monkeypatch.context() as patch:
        interrupt_before(3, patch)
        assert command(*arguments, "--output", "stopped")[0] == 130
    assert command("train", "--resume", "stopped")[0] == 0
    a, b = (last(run) for run in ("straight", "stopped"))
    for name in ("state_dict", "optimizer_states"):
        assert_same(a[name], b[name])
    shutil.copytree(teacher, "another")
    path = checkpoint_path("another")
    torch.save({**torch.load(path, weights_only=False), "trained": "longer"}, path)
    other = command("train", "--resume", "stopped", "--distil", "another", "--max-steps", 8)
    assert_told(other, "--distil another: is not the model that this run began to learn from")


def test_bad_input_is_told_in_a_line(command: Command, teacher: Path, tmp_path: Path) -> None:
    refused = {
        ("--distil", "nowhere"): "--distil nowhere: no such checkpoint",
        ("--distil", str(tmp_path)): f"--distil {tmp_path}: not a run's folder",
        ("--distil", "teacher", "--embedding-dim", "5"): "its embeddings have 16 numbers",
        (
            "--distil",
            "teacher",
            "--wccn",
            "false",
        ): "--wccn false: the model to learn from has true",
        ("--distil", "teacher", "--cohort", "4"): "--cohort 4: the model to learn from has 3",
        ("--distil", "teacher", "--input-size", "24"): "--input-size 24: the model to learn from",
        ("--distil", "teacher", "--channels", "3"): "--distil teacher: embeds [1, 96, 96]",
        ("--distil", "teacher", "--distil-weight", "0"): "distil",
        ("--distil", "teacher", "--preset", "faces"): "--preset faces: with --distil",
    }
    for arguments, told in refused.items():
        assert_told(command("train", *arguments, "--output", "refused"), told)
    assert not Path("refused").exists()
    Path("teacher", CONFIG).write_text("- nothing\n")
    told = "teacher/config.yaml: not the options of a run"
    assert_told(command("train", "--distil", "teacher"), told)
