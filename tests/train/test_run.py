"""Claims about whole runs: what they leave behind, and that they learn."""

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console
from small_runs import Facenet, write_faces, write_pairs

from facenet_ext import SupConLoss, TripletLoss
from facenet_ext.cli.train_options import parse
from facenet_ext.data.names import data_name
from facenet_ext.embedding.embedder import Embedder
from facenet_ext.embedding.folders import run_folder
from facenet_ext.embedding.loading import load_embedder
from facenet_ext.evaluation.verification import verify
from facenet_ext.models import WCCN, FisherVectors
from facenet_ext.train import head
from facenet_ext.train.data import Batches, load
from facenet_ext.train.fisher import fit_fisher
from facenet_ext.train.module import EmbeddingModule

PICTURES = ("roc.png", "det.png", "distances.png", "training.png", "mistakes.png")
LFW96 = Path(__file__).parents[3] / "shared" / "data" / "lfw96.tar.gz"


def test_a_run_on_digits_leaves_figures_pictures_and_checkpoints(facenet: Facenet) -> None:
    status, out, err = facenet("--output", "run", "--seed", 3, pictures=True)
    assert (status, err) == (0, "")
    assert "VAL at FAR 0.001" in out
    assert "step 4/4" in out

    figures = json.loads(Path("run/metrics.json").read_text())
    assert figures["steps"] == 4
    assert figures["pairs"]["same"] + figures["pairs"]["different"] == 714 * 713 / 2
    assert [point["wanted_far"] for point in figures["val_far"]] == [1e-3, 1e-2]
    assert all(point["reachable"] and point["far"] <= 1e-2 for point in figures["val_far"])
    assert 0.5 < figures["accuracy"]["mean"] <= 1
    assert 0.5 < figures["auc"] <= 1
    assert 0 <= figures["eer"] < 0.5

    for picture in PICTURES:
        with Image.open(Path("run") / picture) as image:
            assert min(image.size) > 400
            assert len(image.convert("L").getcolors() or ()) > 20
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert (config["seed"], config["data"], config["stages"]) == (3, "digits", [1, 1])
    assert {path.name for path in Path("run/checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list(Path("run/tensorboard").glob("events*"))
    assert not [path for path in Path("run").rglob(".*") if path.is_file()]


def test_a_checkpoint_is_plain_data_from_which_the_network_can_be_built(facenet: Facenet) -> None:
    facenet("--output", "run", "--ema", 0.5, "--evaluations", 1)
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["facenet_ext"]["options"]["embedding_dim"] == 8
    assert checkpoint["facenet_ext"]["history"]["step"] == [1, 2, 3, 4]


def test_the_defaults_for_digits_learn_in_a_few_steps() -> None:
    options = parse(["--threads", "1"], "facenet train").options
    data = load(options.data, Console())
    batches = Batches(data, options.batch, seed=0, epochs=1, steps=30)
    assert batches.steps == 30
    module = EmbeddingModule(options, data.train.shape, batches.steps, data.pairs)
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=options.optimizer.lr)
    losses = []
    for rows in batches.sampler:
        images, labels = data.train.__getitems__(rows)
        loss = module.triplets(module.network(module.augment(images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.92 * sum(losses[:5])


def test_a_folder_of_faces_is_split_by_identity(facenet: Facenet, faces: Path) -> None:
    status, out, err = facenet("--data", faces, "--output", "run", "--held-out", 0.4)
    assert (status, err) == (0, "")
    assert "train on" in out
    assert "next: facenet evaluate --checkpoint run, or facenet verify" in out
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    assert config["flip"] is True  # one of the defaults for faces


def test_a_folder_with_train_val_and_pairs_is_used_as_it_is(
    facenet: Facenet, faces: Path, tmp_path: Path
) -> None:
    root = _train_val(faces, tmp_path)
    status, out, err = facenet("--data", root, "--negatives", 3, "--negative-copies", 2)
    assert (status, err) == (0, "")
    assert "train on 28 images of 10 identities, verify 8 images of 4 identities" in out
    assert "not reachable with this many" in out
    (run,) = Path("runs").iterdir()
    assert run.name.startswith("both-")
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["pairs"] == {"same": 4, "different": 4, "folds": 2}
    assert not figures["val_far"][0]["reachable"]


@pytest.mark.parametrize("ending", [".tar.gz", ".zip"])
def test_an_archive_is_unpacked_once_and_used_as_its_folder(
    facenet: Facenet, faces: Path, tmp_path: Path, ending: str
) -> None:
    root = _train_val(faces, tmp_path)
    archive = tmp_path / f"faces96{ending}"
    if ending == ".zip":
        with zipfile.ZipFile(archive, "w") as file:
            for path in root.rglob("*"):
                file.write(path, path.relative_to(tmp_path))
    else:
        with tarfile.open(archive, "w:gz") as file:
            file.add(root, "both")
    assert facenet("--data", archive, "--output", "a")[0] == 0
    (unpacked,) = (tmp_path / "cache" / "facenet_ext").glob("faces96-*")
    before = unpacked.stat().st_mtime_ns
    assert facenet("--data", archive, "--output", "b")[0] == 0
    assert unpacked.stat().st_mtime_ns == before


def test_colour_images_and_a_val_folder_of_their_own(facenet: Facenet, tmp_path: Path) -> None:
    train = write_faces(tmp_path / "train_faces", {f"a{i}": 3 for i in range(5)})
    val = write_faces(tmp_path / "val_faces", {f"b{i}": 5 for i in range(5)})
    status, _, err = facenet("--data", train, "--val", val, "--channels", 3, "--output", "run")
    assert (status, err) == (0, "")


def test_images_that_exceed_the_memory_are_decoded_when_needed(
    facenet: Facenet, faces: Path, tmp_path: Path
) -> None:
    root = _train_val(faces, tmp_path)
    for output, memory in (("a", 4.0), ("b", 1e-6)):
        assert facenet("--data", root, "--memory", memory, "--output", output)[0] == 0
    assert Path("a/metrics.json").read_text() == Path("b/metrics.json").read_text()


@pytest.mark.parametrize("optimizer", ["adagrad", "sgd", "adamw"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle", "step"])
def test_every_optimizer_runs_with_every_schedule(
    facenet: Facenet, faces: Path, optimizer: str, schedule: str
) -> None:
    status, _, err = facenet(
        *("--data", faces, "--held-out", 0.4, "--optimizer", optimizer, "--schedule", schedule),
        *("--warmup", 0.25, "--max-steps", 2, "--output", "run"),
    )
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (".", "here"),
        ("..", "above"),
        ("./", "here"),
        ("inner/..", "here"),
        ("/", "data"),
        ("faces/", "faces"),
        ("lfw.v2", "lfw.v2"),
        ("lfw.v2.tar.gz", "lfw.v2"),
        ("f.npz", "f"),
        (".hidden", "hidden"),
        ("-x", "x"),
        ("a b;c[/red]", "red"),
        ("e\u0301t\u00e9 \u5f20\u4f1f", "\u00e9t\u00e9_\u5f20\u4f1f"),
        ("caf\udce9\n", "caf"),
        ("x" * 300, "x" * 50),
        ("...", "data"),
    ],
)
def test_a_run_is_named_after_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, name: str
) -> None:
    (tmp_path / "above" / "here" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "above" / "here")
    assert data_name(data) == name
    folder = run_folder(None, data, None)
    assert re.fullmatch(rf"runs/{name}-\d{{8}}-\d{{6}}", str(folder))
    folder.mkdir(parents=True)
    assert run_folder(None, data, None) != folder  # of a second run in the same second


def test_mixed_precision_and_epochs(facenet: Facenet, faces: Path) -> None:
    status, _, err = facenet(
        *("--data", faces, "--held-out", 0.4, "--precision", "bf16-mixed", "--output", "run"),
        *("--max-steps", "null", "--max-epochs", 3),
    )
    assert (status, err) == (0, "")
    assert json.loads(Path("run/metrics.json").read_text())["steps"] % 3 == 0
    assert parse(["--max-epochs", "3"], "").options.run.max_steps is None


def test_a_committee_of_networks_that_straighten(facenet: Facenet, faces: Path) -> None:
    status, _, err = facenet(
        *("--data", faces, "--held-out", 0.4, "--members", 3, "--aligned-size", "[12,8]"),
        *("--aligned-window", "[0.9,0.5]", "--output", "run"),
    )
    assert (status, err) == (0, "")
    module = load_embedder(Path("run/checkpoints/last.ckpt"))
    assert module.embed_once(torch.zeros(2, *module.shape, dtype=torch.uint8)).shape == (2, 24)
    windows = [member.features[0] for member in module.network.members]
    assert [(w.aligned_size, w.window) for w in windows] == [(12, 0.9), (8, 0.5), (12, 0.9)]
    first, _, second = module.network.members
    assert not torch.equal(first.embedding.weight, second.embedding.weight)
    # Each has a loss of its own, of embeddings of length 1.
    images = torch.randint(256, (6, *module.shape), dtype=torch.uint8)
    embeddings, labels = module.embed_once(images), torch.tensor([0, 0, 0, 1, 1, 1])
    training = EmbeddingModule(module.options, module.shape, steps=1)
    alone = [training.triplets(part, labels) for part in module.network.parts(embeddings)]
    loss = training.batch_loss(images, embeddings, labels)
    torch.testing.assert_close(loss, torch.stack(alone).mean())
    assert not torch.isclose(loss, training.triplets(embeddings, labels))


def test_members_take_windows_and_losses_in_turn(facenet: Facenet, faces: Path) -> None:
    status, _, err = facenet(
        *("--data", faces, "--held-out", 0.4, "--members", 3, "--aligned-size", 8),
        *("--aligned-window", 0.5, "--aligned-x", "[0.5,0.25]", "--aligned-y", "[0.25,0.5,0.75]"),
        *("--straighten", "false", "--loss", "[supcon,triplet]", "--temperature", 0.5),
        *("--output", "run"),
    )
    assert (status, err) == (0, "")
    module = load_embedder(Path("run/checkpoints/last.ckpt"))
    windows = [member.features[0] for member in module.network.members]
    assert [window.center for window in windows] == [(0.5, 0.25), (0.25, 0.5), (0.5, 0.75)]
    assert [list(window.parameters()) for window in windows] == [[], [], []]
    images = torch.randint(256, (6, *module.shape), dtype=torch.uint8)
    embeddings, labels = module.embed_once(images), torch.tensor([0, 0, 0, 1, 1, 1])
    first, second, third = module.network.parts(embeddings)
    supcon, triplet = SupConLoss(0.5), TripletLoss(module.options.loss.margin)
    alone = [supcon(first, labels), triplet(second, labels), supcon(third, labels)]
    training = EmbeddingModule(module.options, module.shape, steps=1)
    loss = training.batch_loss(images, embeddings, labels)
    torch.testing.assert_close(loss, torch.stack(alone).mean())


def test_the_head_is_fitted_to_the_training_at_each_evaluation(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = []
    monkeypatch.setattr(
        head, "fit_fisher", lambda *given: (fitted.append(given), fit_fisher(*given))
    )
    status, _, err = facenet(
        *("--data", faces, "--held-out", 0.4, "--members", 2, "--wccn", "true", "--cohort", 3),
        *("--fisher", 6, "--input-size", 32, "--ema", 0.9, "--evaluations", 3),
        *("--test-shift", 0.1, "--output", "run"),
    )
    assert (status, err) == (0, "")
    module = load_embedder(Path("run/checkpoints/last.ckpt"))
    data = load(module.options.data, Console(quiet=True))
    train, val = (
        torch.stack([part.values[i] for i in range(len(part))]) for part in (data.train, data.val)
    )
    labels, counts = torch.unique(data.train.labels, return_counts=True)
    several = torch.isin(data.train.labels, labels[counts > 1])
    assert not several.all()
    expected = WCCN(16)
    with torch.no_grad():
        inputs = module.prepare(train[several])
        embedded = module.network(inputs)
        expected.fit(embedded, data.train.labels[several])
        described = 2 * module.head.fisher(inputs)
        transformed = torch.cat([expected(embedded), described], 1) / 5**0.5
    wccn, cohort = module.head.wccn, module.head.cohort
    assert (wccn.transform - torch.eye(16)).abs().max() > 0.1
    torch.testing.assert_close(wccn.transform, expected.transform, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(wccn.mean, expected.mean, rtol=1e-3, atol=1e-3)
    means = torch.stack(
        [transformed[data.train.labels[several] == label].mean(0) for label in labels[counts > 1]]
    )
    people = torch.nn.functional.normalize(means)
    assert len(fitted) == 1
    # Fisher vectors are fitted once, to all images, and no average of weights changes them.
    fisher = FisherVectors(module.network.input_shape, 6)
    fresh = Embedder(module.options, module.shape).eval()
    fresh.head.fisher = fisher
    everybody = np.arange(len(data.train))
    fit_fisher(fresh, data.train, everybody, data.train.labels, module.options.run.seed)
    assert_close = torch.testing.assert_close
    assert_close(fisher(inputs), module.head.fisher(inputs), rtol=1e-3, atol=1e-3)
    kept = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert any(name.startswith("head.fisher.") for name in kept["state_dict"])
    for name, value in kept["state_dict"].items():
        if name.startswith("head."):
            assert_close(kept["current_model_state"][name], value, rtol=0, atol=0, msg=name)
    assert len(torch.unique((cohort.people @ people.T).argmax(1))) == 3
    torch.testing.assert_close((cohort.people @ people.T).amax(1), torch.ones(3))
    # It transforms the mean of the views, and the run's figures are those of its embeddings.
    with torch.no_grad():
        shifts = [(x, y) for x in (-0.1, 0, 0.1) for y in (-0.1, 0, 0.1)]
        views = [module.network(module.prepare(val, shift)) for shift in shifts]
        if module.flips:
            views += [module.network(module.prepare(val, shift).flip(3)) for shift in shifts]
        mean = torch.nn.functional.normalize(torch.stack(views).sum(0))
        wanted = module.head(mean, module.inputs(val))
    embedded = module.embed(val)
    torch.testing.assert_close(embedded, wanted, rtol=1e-4, atol=1e-4)
    assert embedded.shape[1] == module.embedding_dim == 16 + 6 + 3
    figures = json.loads(Path("run/metrics.json").read_text())
    assert figures["auc"] == pytest.approx(verify(embedded, data.pairs).auc, abs=1e-3)


def test_max_minutes_stops_early_and_still_reports(facenet: Facenet) -> None:
    status, _, _ = facenet("--max-steps", 100_000, "--max-minutes", 0.005, "--output", "run")
    assert status == 0
    steps = json.loads(Path("run/metrics.json").read_text())["steps"]
    assert 1 <= steps < 1000
    assert torch.load("run/checkpoints/last.ckpt", weights_only=True)["global_step"] == steps


def test_the_package_can_be_run() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "facenet_ext.train", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    assert "usage: python -m facenet_ext.train" in result.stdout


@pytest.mark.slow
@pytest.mark.skipif(not LFW96.is_file(), reason=f"{LFW96.name} is not there")
def test_faces_in_the_wild_are_told_apart_after_a_minute(facenet: Facenet) -> None:
    status, _, _ = facenet(
        *("--data", LFW96, "--max-steps", 60, "--evaluations", 1, "--output", "run"), tiny=False
    )
    assert status == 0
    assert json.loads(Path("run/metrics.json").read_text())["accuracy"]["mean"] > 0.68


def _train_val(faces: Path, tmp_path: Path) -> Path:
    """Arrange the faces as train/, val/ and pairs.txt."""
    root = tmp_path / "both"
    (root / "val").mkdir(parents=True)
    faces.rename(root / "train")
    for number in range(6, 10):
        (root / "train" / f"Person_{number:02d}").rename(root / "val" / f"Person_{number:02d}")
    write_pairs(root / "pairs.txt")
    return root
