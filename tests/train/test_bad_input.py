"""Claims about bad input: one line that says what to do, status 2, and nothing left behind."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_runs import Facenet, write_faces, write_pairs


def assert_told(result: tuple[int, str, str], *parts: str) -> None:
    status, _, err = result
    assert status == 2, err
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert err.startswith("facenet train: error: ")
    for part in parts:
        assert part in err
    assert not list(Path().glob("runs/*"))
    assert not Path("run").exists()


def test_no_such_data(facenet: Facenet) -> None:
    assert_told(facenet("--data", "nowhere"), "nowhere: no such folder or archive; give 'digits'")


def test_a_file_that_is_no_archive(facenet: Facenet, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    assert_told(facenet("--data", "data.csv"), "not a folder nor an archive", ".tar.gz")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("broken.tar.gz", "cannot be unpacked"),
        ("broken.zip", "is no zip archive, or a damaged one"),
        ("broken.tar", "is cut off"),
    ],
)
def test_a_broken_archive(facenet: Facenet, tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / name).write_bytes(b"not an archive")
    assert_told(facenet("--data", name), f"{name}: {why}")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_an_archive_that_reaches_outside_its_folder(
    facenet: Facenet, faces: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as file:
        file.add(faces, "faces")
        file.add(faces / "Single_0/Single_0_0001.png", "../../escaped.png")
    assert_told(facenet("--data", "evil.tar.gz"), "cannot be unpacked", "outside")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../../escaped.png", b"")
    assert_told(facenet("--data", "evil.zip"))
    assert not list(tmp_path.rglob("../escaped.png"))
    assert not list((tmp_path / "cache").glob("escaped.png"))


def test_an_empty_folder(facenet: Facenet, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_told(facenet("--data", "empty"), "no images found", "put them in empty/<identity>")


def test_images_without_folders_of_identities(facenet: Facenet, faces: Path) -> None:
    assert_told(facenet("--data", faces / "Person_00"), "no images found", "<identity>/<image>")


def test_one_identity(facenet: Facenet, tmp_path: Path) -> None:
    write_faces(tmp_path / "one", {"Alone": 30})
    assert_told(facenet("--data", "one"), "all 30 images are of one identity (Alone)")


def test_too_few_pairs_to_verify(facenet: Facenet, tmp_path: Path) -> None:
    write_faces(tmp_path / "few", {f"P{i}": 2 for i in range(8)})
    result = facenet("--data", "few")
    assert_told(result, "too few people or images (8 and 16)", "must make 10 pairs", "--val")


def test_an_unreadable_image_is_named_and_skipped(facenet: Facenet, tmp_path: Path) -> None:
    root = write_faces(tmp_path / "faces", {f"P{i}": 4 for i in range(10)})
    (root / "P3" / "P3_0002.png").write_bytes(b"no image")
    status, out, err = facenet("--data", root, "--held-out", 0.4, "--output", "run")
    assert (status, err) == (0, "")
    assert "P3_0002.png" in out
    assert "skipped 1 of " in out


def test_pairs_of_an_unreadable_image_are_skipped(facenet: Facenet, tmp_path: Path) -> None:
    root = write_faces(tmp_path / "faces", {f"P{i}": 20 for i in range(10)})
    (root / "P0" / "P0_0002.png").write_bytes(b"no image")
    lines = ["2\t2"]
    for a, b in (("P0", "P1"), ("P2", "P3")):
        lines += [f"{a}\t1\t2", f"{a}\t3\t4", f"{a}\t3\t{b}\t1", f"{a}\t4\t{b}\t2"]
    (tmp_path / "pairs.txt").write_text("\n".join(lines))
    status, out, err = facenet("--data", root, "--pairs", "pairs.txt", "--output", "run")
    assert (status, err) == (0, "")
    assert "skipped 1 pair of images" in out


def test_digits_have_their_own_split(facenet: Facenet) -> None:
    assert_told(facenet("--pairs", "pairs.txt"), "--pairs pairs.txt: the digits", "leave it out")


def test_an_output_that_is_a_file(facenet: Facenet, faces: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    result = facenet("--data", faces, "--held-out", 0.4, "--output", "taken")
    assert_told(result, "--output taken: cannot be written to")


def test_a_device_that_is_not_there(facenet: Facenet, faces: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = facenet("--data", faces, "--held-out", 0.4, "--accelerator", "gpu")
    assert_told(result, "--accelerator")


def test_many_unreadable_images_are_told_at_once(facenet: Facenet, faces: Path) -> None:
    """One with no image in it and others that are cut off."""
    (faces / "Person_03" / "Person_03_0002.png").write_bytes(b"no image")
    for number in range(10):
        path = faces / f"Person_{number:02d}" / f"Person_{number:02d}_0001.png"
        path.write_bytes(path.read_bytes()[:60])
    result = facenet("--data", faces, "--held-out", 0.4)
    assert_told(
        result,
        "11 of 44 images cannot be read, more than the 10 that may be left out",
        "Person_03_0002.png: cannot identify image file",
        "Person_08_0001.png: ",
        "; and 1 more",
    )


def test_a_pairs_file_that_names_missing_images(facenet: Facenet, faces: Path) -> None:
    pairs = write_pairs(faces.parent / "pairs.txt")
    (faces / "Person_07" / "Person_07_0002.png").unlink()
    result = facenet("--data", faces, "--pairs", pairs)
    assert_told(result, "1 of the 8 images it names are missing", "Person_07/Person_07_0002")


def test_no_such_pairs_file(facenet: Facenet, faces: Path) -> None:
    assert_told(facenet("--data", faces, "--pairs", "none.txt"), "none.txt: the pairs file cannot")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "line 1 must be 'folds pairs-per-fold'"),
        ("ten 300\n", "line 1 must be"),
        ("2 1\na 1 2\na 1 b 1\n", "promises 2 folds of 1 same and 1 different pairs, there are 2"),
        ("1 1\na 1 2\na 1 b 1\n", "two folds or more"),
        ("2 1\na 1 2\na 1 b 1\na 1\na 1 b 2\n", "pair 3 must be 'name i j', it is 'a 1'"),
        ("2 1\na 1 2\na 1 b x\na 1 3\na 1 b 2\n", "pair 2 must be 'name i name j'"),
    ],
)
def test_a_malformed_pairs_file(facenet: Facenet, faces: Path, text: str, told: str) -> None:
    (faces.parent / "pairs.txt").write_text(text)
    assert_told(facenet("--data", faces, "--pairs", "pairs.txt"), "pairs.txt: ", told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--nonsense", "3"], "--nonsense: no such option"),
        (["--max-minute", "4"], "--max-minute: no such option; did you mean --max-minutes?"),
        (["--max_minutes", "4"], "--max_minutes: no such option; did you mean --max-minutes?"),
        (["--max-minutes", "-1"], "error: --max-minutes -1: expected a number above 0; see --help"),
        (["--lr", "-1e-3"], "error: --lr -1e-3: expected a number above 0; see --help"),
        (["--lr", "fast"], "error: --lr fast: expected a number above 0; see --help"),
        (["--lr"], "error: --lr: a value is missing; see --help"),
        (["--margin", "nan"], "--margin nan: expected a finite number above 0"),
        (["--margin", "inf"], "--margin inf: expected a finite number above 0"),
        (["--micro-batch", "3"], "--micro-batch 3: expected a whole number of at least 4"),
        (["--flip", "maybe"], "--flip maybe: expected true or false"),
        (["--json=3"], "--json: takes no value"),
        (["more"], "more: not expected"),
        (["--batch-size", "4"], "--batch-size 4: 4 identities with 3 images each are 12 already"),
        (["--batch-size", "40", "--negatives", "1"], "--negatives 1: --batch-size 40 says"),
        (
            ["--preset", "nonsense"],
            "expected one of aligned, digits, faces, features, paper, speakers",
        ),
        (["--mine-subset", "1"], "--mine-subset 1: expected a whole number of at least 2"),
        (["--identities", "1"], "--identities 1: expected a whole number of at least 2"),
        (["--images-per-identity", "1"], "--images-per-identity 1: expected a whole number"),
        (["--optimizer", "adam"], "--optimizer adam: expected one of adagrad, sgd, adamw"),
        (["--held-out", "1.5"], "--held-out 1.5: expected a number above 0 and below 1"),
        (["--crop", "0"], "--crop 0: expected a number above 0 and at most 1"),
        (["--seed", "-1"], "--seed -1: expected a whole number of at least 0"),
        (
            ["--stages", "[1,0]"],
            "[1,0]: expected a list such as [1,2], each a whole number above 0",
        ),
        (["--max-steps", "0"], "--max-steps 0: expected a whole number above 0"),
        (["--output", ""], "--output '': an empty name"),
        (["--data", ""], "--data '': an empty name"),
        (
            ["--crop", "0", "--zzz=1", "--lr", "x", "--json=1", "--seed"],
            "error: --crop 0: expected a number above 0 and at most 1; --lr x: expected a number "
            "above 0; --json: takes no value; --seed: a value is missing; --zzz: no such option; "
            "see --help",
        ),
        (
            ["--stages", "[1,1,1,1,1]"],
            "--stages, --input-size, --aligned-size: input_size must be at least 32",
        ),
        (["--stages", "[1,1,1,1]", "--aligned-size", "12"], "aligned_size must be at least 16"),
        (["--aligned-size", "7"], "--aligned-size 7: expected a whole number of at least 8, or"),
        (["--aligned-size", "17"], "aligned_size must be at most input_size, 16, got 17"),
        (["--aligned-size", "[]"], "--aligned-size []: give one number, or one per member"),
        (["--aligned-size", "[12, 7]"], "--aligned-size [12, 7]: expected"),
        (["--aligned-window", "[]"], "--aligned-window []"),
        (["--aligned-window", "0"], "--aligned-window 0: expected a number above 0 and at most 1"),
        (["--aligned-window", "[0.5, 1.5]"], "--aligned-window [0.5, 1.5]: expected"),
        (["--members", "0"], "--members 0: expected"),
        (["--config", "none.yaml"], "--config none.yaml: no such file"),
    ],
)
def test_nonsense_options(facenet: Facenet, arguments: list[str], told: str) -> None:
    result = facenet(*arguments)
    assert_told(result, told)
    for internal in ("<class", "Parser key", "NoneType", "Union", "restriction"):
        assert internal not in result[2]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("widht: 3\n", "bad.yaml: widht: no such option; did you mean width?"),
        ("width: [\n", "bad.yaml: not a YAML file of options"),
        ("- 1\n", "bad.yaml: not a YAML file of options"),
        ("lr: -1\n", "bad.yaml: lr -1: expected a number above 0"),
        ("identities: 99\n", "--identities 99: of 48 digits to train on 48 have 2 images or more"),
    ],
)
def test_a_bad_config_file(facenet: Facenet, tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    assert_told(facenet("--config", "bad.yaml"), told)


def test_an_output_folder_that_holds_a_run(facenet: Facenet, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.yaml").write_text("{}")
    assert_told(facenet("--output", "old"), "already holds a run; continue it with --resume")


def test_nothing_to_resume(facenet: Facenet) -> None:
    assert_told(facenet("--resume"), "--resume: no run in runs/; give the path of a checkpoint")
    assert_told(facenet("--resume", "gone.ckpt"), "gone.ckpt: no such checkpoint")


@pytest.fixture
def finished(facenet: Facenet, faces: Path) -> Path:
    """The folder of a finished run."""
    assert facenet("--data", faces, "--held-out", 0.4, "--output", "finished")[0] == 0
    return Path("finished")


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint(facenet: Facenet, finished: Path, content: bytes) -> None:
    (finished / "checkpoints" / "last.ckpt").write_bytes(content)
    result = facenet("--resume", "finished", tiny=False)
    assert_told(result, "the checkpoint is damaged or no checkpoint", "try the other one")


def test_a_truncated_checkpoint(facenet: Facenet, finished: Path) -> None:
    path = finished / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-1000])
    assert_told(facenet("--resume", "finished", tiny=False), "damaged")


def test_a_file_of_weights_that_is_no_checkpoint(facenet: Facenet, finished: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, finished / "checkpoints" / "last.ckpt")
    assert_told(
        facenet("--resume", "finished", tiny=False), "not a checkpoint that 'facenet train' wrote"
    )


def test_a_checkpoint_that_would_run_code(facenet: Facenet, finished: Path) -> None:
    torch.save({"facenet_ext": pytest.fail}, finished / "checkpoints" / "last.ckpt")
    assert_told(facenet("--resume", "finished", tiny=False), "damaged or no checkpoint")


def test_a_checkpoint_of_another_model(facenet: Facenet, finished: Path) -> None:
    before = (finished / "config.yaml").read_text()
    result = facenet("--resume", "finished", "--width", 8, tiny=False)
    assert_told(result, "is of another model: network.", "leave the model's options as they were")
    assert (finished / "config.yaml").read_text() == before


def test_a_checkpoint_without_its_run(facenet: Facenet, finished: Path) -> None:
    (finished / "checkpoints" / "last.ckpt").rename("alone.ckpt")
    assert_told(facenet("--resume", "alone.ckpt", tiny=False), "not in a run's folder")


def test_a_learning_rate_that_diverges(facenet: Facenet, faces: Path) -> None:
    status, _, err = facenet(
        *("--data", faces, "--held-out", 0.4, "--optimizer", "sgd", "--lr", "1e30"),
    )
    assert status == 2
    assert err.count("\n") == 1
    assert "lower --lr" in err


def test_an_image_larger_than_a_bomb_is_skipped_not_decoded(
    facenet: Facenet, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert_told(facenet("--data", faces, "--held-out", 0.4), "has more than 200 pixels")
