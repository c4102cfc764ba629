"""Claims about ``facenet evaluate`` by InsightFace's ``.bin``, IJB's templates, trials."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import Command, assert_told
from small_runs import TINY
from test_trials import NFC, NFD, write

import facenet_ext.train.run
from facenet_ext.cli.train import main
from facenet_ext.data.features import read_names
from facenet_ext.data.images import read_image
from facenet_ext.data.insightface_bin import read_bin
from facenet_ext.embedding.loading import checkpoint_path, load_embedder
from facenet_ext.embedding.operating_points import find_operating_points
from facenet_ext.evaluation.scored_pairs import read_scored
from facenet_ext.metrics import auc, eer

SHARED = Path(__file__).parents[3] / "shared" / "data" / "insightface"
BINS = ("lfw.bin", "cfp_fp.bin", "agedb_30.bin", "calfw.bin", "cplfw.bin")


def evaluate(command: Command, run: Path, *more: object) -> Any:
    return command("evaluate", "--checkpoint", run, "--output", "report", *more)


def figures_of(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert status == 0, err
    figures = json.loads(out)
    assert json.loads(Path("report/metrics.json").read_text()) == figures
    assert "<h2" in Path("report/report.html").read_text()
    return figures


def embedded(run: Path, images: list[Path]) -> torch.Tensor:
    module = load_embedder(checkpoint_path(str(run)))
    data = module.options.data
    with torch.no_grad():
        x = module(torch.stack([read_image(p, data.image_size, data.channels) for p in images]))
    return x.double()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs shared/data/insightface beside the checkout")
@pytest.mark.parametrize("name", BINS)
def test_the_sets_of_insightface(name: str, command: Command, world: Path) -> None:
    """By their names, with the images and pairs that the golden list tells."""
    golden = json.loads((SHARED / "golden.json").read_text())["pairs"]
    shutil.copy(SHARED / f"pairs_p{4 - 2 * (BINS.index(name) % 2)}.bin", name)
    result = evaluate(command, world / "old", "--data", name, "--quality", 0, "--json")
    figures = figures_of(result)
    assert figures["protocol"] == name
    assert figures["images"] == 2 * len(golden)
    same = [bool(pair["same"]) for pair in golden]
    assert figures["pairs"]["same"] == sum(same)
    assert figures["pairs"]["different"] == len(same) - sum(same)
    assert read_bin(Path(name)).same == same


def test_a_bin_admits_bytes_booleans_and_arrays_of_bytes_alone(tmp_path: Path) -> None:
    image, path = b"\xff\xd8 an image", tmp_path / "lfw.bin"
    as_array = np.frombuffer(image, np.uint8)
    for images in ([image] * 2, [as_array, image], [as_array.copy()] * 2):
        for same in ([True], [np.bool_(True)], np.array([True]), (True,)):
            for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
                path.write_bytes(pickle.dumps((images, same), protocol))
                assert read_bin(path) == ([image] * 2, [True])
    for refused in (
        ([bytearray(image)] * 2, [True]),
        (["text"] * 2, [True]),
        ([as_array.astype(np.int8)] * 2, [True]),
        ([as_array.astype(np.uint16)] * 2, [True]),
        ([as_array.reshape(1, -1)] * 2, [True]),
        ([image] * 2, [1]),
        ([image] * 2, [1.0]),
        ([image] * 2, [None]),
        ([image] * 2, [np.int64(1)]),
        ([image] * 2, np.array([1], np.uint8)),
        ([image] * 2, np.array([[True]])),
        ({"images": [image] * 2, "same": [True]}),
    ):
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            path.write_bytes(pickle.dumps(refused, protocol))
            with pytest.raises(ValueError, match=r"lfw\.bin: "):
                read_bin(path)


@pytest.fixture
def janus(world: Path) -> Path:
    """Faces in one folder with numbers for names, and templates of them: people 0 to 5."""
    crops, meta = Path("loose_crop"), Path("meta")
    crops.mkdir()
    meta.mkdir()
    media, rows, number = [], {}, 0
    for person in range(6):
        for image in range(1, 5):
            number += 1
            shutil.copy(
                world / f"faces/Person_{person:02d}/Person_{person:02d}_{image:04d}.png",
                crops / f"{number}.png",
            )
            template = 10 * person + image // 4  # the first three are of one template
            media.append(f"{number}.png {template} {max(1, image - 1)}")
            rows.setdefault(template, []).append(f"{template},{person},{number}.png,1")
    write(meta / "ijbc_face_tid_mid.txt", *media)
    lines = []
    for one in range(6):
        lines += [f"{10 * one} {10 * other + 1} {int(one == other)}" for other in range(6)]
    write(meta / "ijbc_template_pair_label.txt", *lines)
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"
    for name, people in (("G1", (0, 1)), ("G2", (2, 3, 4))):
        write(
            meta / f"ijbc_1N_gallery_{name}.csv",
            header,
            *(row for person in people for row in rows[10 * person]),
        )
    write(meta / "ijbc_1N_probe_mixed.csv", header, *(rows[10 * p + 1][0] for p in range(6)))
    return meta


def templates_of(run: Path) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings of the templates of the first three images of each person, and of the last:
    the first two are frames of one video."""
    x = embedded(run, [Path(f"loose_crop/{i}.png") for i in range(1, 25)]).numpy().reshape(6, 4, -1)
    mean = x[:, :2].mean(1) + x[:, 2]
    return mean / np.linalg.norm(mean, axis=1, keepdims=True), x[:, 3]


def test_pairs_of_templates(command: Command, world: Path, janus: Path) -> None:
    options = ("--data", "loose_crop", "--pairs", janus / "ijbc_template_pair_label.txt")
    figures = figures_of(evaluate(command, world / "old", *options, "--json"))
    one, other = templates_of(world / "old")
    distances = torch.from_numpy(2 - 2 * (one @ other.T)).flatten()
    same = torch.eye(6, dtype=torch.bool).flatten()
    assert figures["trials"] == {"same": 6, "different": 30}
    assert figures["auc"] == pytest.approx(auc(distances, same), abs=1e-6)
    assert figures["eer"] == pytest.approx(eer(distances, same).rate, abs=1e-6)
    assert figures["eer_threshold"] == pytest.approx(eer(distances, same).threshold, abs=1e-4)
    assert (figures["protocol"], figures["templates"]) == ("ijbc_template_pair_label.txt", 12)
    assert (figures["identities"], figures["images"]) == (6, 24)
    points = {point["wanted_far"]: point for point in figures["val_far"]}
    assert points[1e-1]["reachable"]
    assert not points[1e-2]["reachable"]
    assert "--pairs" in figures["command"]
    status, out, _ = evaluate(command, world / "old", *options)
    assert status == 0
    assert "6 trials of one identity, 30 of two" in out
    matches = write(
        janus / "ijbc_11_G1_G2_matches.csv",
        *(f"{10 * a},{10 * b + 1}" for a in range(5) for b in range(6)),
    )
    again = figures_of(evaluate(command, world / "old", *options[:2], "--pairs", matches, "--json"))
    some = auc(distances.reshape(6, 6)[:5].flatten(), same.reshape(6, 6)[:5].flatten())
    assert again["auc"] == pytest.approx(some, abs=1e-6)
    assert again["trials"] == {"same": 5, "different": 25}


def test_probes_in_galleries(command: Command, world: Path, janus: Path) -> None:
    options = ("--data", "loose_crop", "--pairs", janus / "ijbc_1N_probe_mixed.csv", "--json")
    figures = figures_of(evaluate(command, world / "old", *options))
    one, other = templates_of(world / "old")
    first, second = figures["galleries"]
    for found, people in ((first, [0, 1]), (second, [2, 3, 4])):
        similar = other @ one[people].T
        ranks = [
            int((similar[person] >= similar[person, people.index(person)]).sum())
            for person in people
        ]
        expected = [
            sum(rank <= k for rank in ranks) / len(people) for k in range(1, len(people) + 1)
        ]
        assert found["cmc"] == pytest.approx(expected)
        nearest = similar.max(1)
        strangers = [nearest[person] for person in range(6) if person not in people]
        identified = [
            rank == 1 and nearest[person] > max(strangers)
            for rank, person in zip(ranks, people, strict=True)
        ]
        for point in found["open_set"]:
            assert point["false_alarms"] == 0, "one of four or less would be more than 0.1"
            assert point["identified"] == pytest.approx(np.mean(identified))
        assert (found["known_probes"], found["unknown_probes"]) == (len(people), 6 - len(people))
    assert (first["gallery"], first["subjects"]) == ("ijbc_1N_gallery_G1.csv", 2)
    points = [point for found in (first, second) for point in found["open_set"]]
    assert points
    assert not any(point["reachable"] for point in points), "with four strangers at most"
    status, out, _ = evaluate(command, world / "old", *options[:-1])
    assert status == 0
    assert "rank 1" in out
    assert "rank 5" not in out, "there are fewer people"
    assert "not reachable with this many" in out
    result = evaluate(command, world / "old", *options[:-1], "--groups", "people.csv")
    assert_told(
        result,
        "--groups people.csv: tells the error rates of pairs by groups, and "
        "ijbc_1N_probe_mixed.csv has searches; leave it out, or give the protocol's pairs to "
        "--pairs",
    )


def test_what_cannot_be_read_is_left_out(command: Command, world: Path, janus: Path) -> None:
    Path("loose_crop/4.png").write_bytes(b"broken")  # the one image of a template
    Path("loose_crop/5.png").write_bytes(b"broken")  # one of three
    options = ("--data", "loose_crop", "--pairs", janus / "ijbc_template_pair_label.txt", "--json")
    status, out, err = evaluate(command, world / "old", *options)
    assert status == 0
    assert "left out 2 of 24 images that cannot be read" in err
    told = "warning: of 12 templates 1 have nothing that can be read"
    assert f"{told}: 6 trials of 36 are left out" in err
    figures = json.loads(out)
    assert figures["trials"] == {"same": 5, "different": 25}
    assert (figures["templates"], figures["images"]) == (11, 22)
    options = ("--data", "loose_crop", "--pairs", janus / "ijbc_1N_probe_mixed.csv", "--json")
    status, out, err = evaluate(command, world / "old", *options)
    assert status == 0
    assert f"{told}: they are left out" in err
    assert json.loads(out)["galleries"][0]["known_probes"] == 1


def test_thresholds_of_templates_are_not_taken_for_those_of_images(
    command: Command, world: Path, janus: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(world / "old", run)
    pairs = janus / "ijbc_template_pair_label.txt"
    before = find_operating_points(checkpoint_path(str(run)))
    given = ("--checkpoint", run, "--data", "loose_crop", "--pairs", pairs)
    assert command("evaluate", *given)[0] == 0
    assert (run / "evaluation" / "metrics.json").is_file()
    assert find_operating_points(checkpoint_path(str(run))) == before


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of ten speakers, four utterances of two pieces each, and a run on them."""
    root = tmp_path_factory.mktemp("voices")
    rng = np.random.default_rng(0)
    labels = np.repeat([f"id{i}" for i in range(10)], 8)
    features = rng.standard_normal((10, 12))[np.arange(80) // 8] + 0.6 * rng.standard_normal(
        (80, 12)
    )
    names = np.array([f"{who}/{at % 8 // 2}.wav" for at, who in enumerate(labels)])
    np.savez(root / "voices.npz", features=features, labels=labels, names=names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facenet_ext.train.run, "draw_all", lambda *_: [])
        options = [
            "--data",
            str(root / "voices.npz"),
            "--model",
            "mlp",
            "--width",
            "32",
            "--output",
            str(root / "run"),
        ]
        assert main([*TINY, *options]) == 0
    return root


def utterances(voices: Path) -> dict[str, np.ndarray]:
    """The mean direction of the pieces of each utterance."""
    with np.load(voices / "voices.npz") as file:
        features, names = torch.from_numpy(file["features"]).float(), file["names"]
    module = load_embedder(checkpoint_path(str(voices / "run")))
    with torch.no_grad():
        x = module(features).double().numpy()
    means = {name: x[names == name].sum(0) for name in set(names.tolist())}
    return {name: mean / np.linalg.norm(mean) for name, mean in means.items()}


@pytest.mark.parametrize("form", ["VoxCeleb", "Kaldi", "enrolled"])
def test_trials_of_speakers(form: str, command: Command, voices: Path) -> None:
    x = utterances(voices)
    rng = np.random.default_rng(1)
    pairs = [
        (f"id{a}/0.wav", f"id{b}/{i}.wav") for a in range(10) for b in range(10) for i in (2, 3)
    ]
    rng.shuffle(pairs)
    same = [one[:3] == other[:3] for one, other in pairs]
    options: list[object] = []
    left = [x[one] for one, _ in pairs]
    if form == "VoxCeleb":
        lines = [f"{int(s)} {one} {other}" for (one, other), s in zip(pairs, same, strict=True)]
    else:
        word = {True: "target", False: "nontarget"}
        lines = [f"{one} {other} {word[s]}" for (one, other), s in zip(pairs, same, strict=True)]
    if form == "enrolled":
        enrol = write(Path("spk2utt"), *(f"id{a} id{a}/0.wav id{a}/1.wav" for a in range(10)))
        options = ["--enrol", enrol]
        lines = [line.replace("/0.wav ", " ", 1) for line in lines]
        left = [x[one] + x[one.replace("0.wav", "1.wav")] for one, _ in pairs]
    path = write(Path("trials"), *lines)
    scores = [
        one @ x[other] / np.linalg.norm(one) for one, (_, other) in zip(left, pairs, strict=True)
    ]
    result = evaluate(
        command,
        voices / "run",
        "--data",
        voices / "voices.npz",
        "--pairs",
        path,
        "--json",
        *options,
    )
    figures = figures_of(result)
    distances, kinds = 2 - 2 * torch.tensor(np.array(scores)), torch.tensor(same)
    assert figures["auc"] == pytest.approx(auc(distances, kinds), abs=1e-6)
    assert figures["eer"] == pytest.approx(eer(distances, kinds).rate, abs=1e-6)
    assert figures["trials"] == {"same": 20, "different": 180}
    assert figures["identities"] == 10
    assert figures["templates"] == 30
    assert figures["warnings"] == [
        "the model was trained on 8 of these 10 people: figures of strangers are worse; without "
        "--data those are verified whom it has not seen"
    ]
    assert figures["images"] == (40 if form == "enrolled" else 30)
    assert (str(Path("spk2utt").resolve()) in figures["command"]) == (form == "enrolled")


def test_images_are_trials_too(command: Command, world: Path) -> None:
    name = "Person_0{}/Person_0{}_000{}.png"
    lines = [f"1 {name.format(i, i, 1)} {name.format(i, i, 2)}" for i in range(4)]
    lines += [f"0 {name.format(i, i, 1)} {name.format(i + 1, i + 1, 2)}" for i in range(4)]
    path = write(Path("trials"), *lines)
    result = evaluate(command, world / "old", "--data", world / "faces", "--pairs", path, "--json")
    figures = figures_of(result)
    assert figures["trials"] == {"same": 4, "different": 4}
    assert figures["identities"] == 5


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--enrol", "spk2utt"], "--enrol spk2utt: goes with --pairs, a file of trials"),
        (
            ["--data", "{faces}", "--pairs", "{lfw}", "--enrol", "x"],
            "goes with --pairs of utterances",
        ),
        (["--pairs", "trials", "--enrol", "nowhere"], "nowhere: cannot be read"),
        (["--data", "{faces}", "--pairs", "trials"], "trials: line 1 names a, which"),
        (["--data", "nowhere", "--pairs", "trials"], "nowhere: no such folder"),
        (["--data", "lfw.bin", "--pairs", "trials"], "lfw.bin has its own pairs; leave it out"),
        (["--data", "v.npz", "--pairs", "trials"], "--data v.npz: no array 'names'"),
        (["--data", "{npz}", "--pairs", "trials"], "and the model embeds"),
        (["--data", "{faces}", "--pairs", "trials", "--all-pairs"], "--all-pairs: of images"),
        (["--data", "{faces}", "--pairs", "file"], "file: line 1 must be 'folds pairs-per-fold'"),
        (["--data", "{faces}", "--pairs", "bad"], "bad: line 2 must be '1|0 enrol test'"),
        (["--data", "{faces}", "--pairs", "trials", "--output", "file/x"], "names a, which"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    arguments: list[str], told: str, command: Command, world: Path, voices: Path
) -> None:
    write(Path("trials"), "1 a b", "0 a c")
    write(Path("bad"), "1 a b", "0 a")
    write(Path("lfw.txt"), "10\t300")
    Path("file").write_text("")
    np.savez("v.npz", features=np.zeros((3, 12)), labels=np.arange(3))
    filled = [
        argument.format(faces=world / "faces", lfw="lfw.txt", npz=voices / "voices.npz")
        for argument in arguments
    ]
    result = command("evaluate", "--checkpoint", world / "old", "--output", "report", *filled)
    assert_told(result, told)
    assert not Path("report").exists()


def test_features_have_names_and_fit_the_model(command: Command, voices: Path) -> None:
    write(Path("trials"), "1 a b", "0 a c")
    whole = {"features": np.zeros((3, 12)), "labels": np.arange(3), "names": np.array([*"abc"])}
    for change, told in (
        ({"names": np.array([*"ab"])}, "names must be 3 strings, one per row"),
        ({"names": np.arange(3)}, "names must be 3 strings"),
        ({"names": np.array([*"abc"], object)}, "names cannot be read"),
        ({"names": np.array([*"abd"])}, "trials: line 2 names c, which v.npz lacks"),
        ({"features": np.zeros((3, 9))}, "a row of features is [9], and the model embeds [12]"),
    ):
        np.savez("v.npz", **(whole | change))
        result = evaluate(command, voices / "run", "--data", "v.npz", "--pairs", "trials")
        assert_told(result, told)
    np.savez("v.npz", **(whole | {"names": np.array([NFC, NFD, "a"])}))
    assert read_names("data", "v.npz", 3) == [NFC, NFC, "a"], "pieces of one utterance"
    result = evaluate(command, voices / "run", "--data", ".", "--pairs", "trials")
    assert_told(result, "--data .: the model embeds features; give an .npz of some")


def test_two_evaluations_are_compared(
    command: Command, world: Path, janus: Path, voices: Path
) -> None:
    def compared(result: tuple[int, str, str]) -> Any:
        assert result[0] == 0, result
        return json.loads(result[1])

    pairs = janus / "ijbc_template_pair_label.txt"
    for name in ("old", "new"):
        options = ("--data", "loose_crop", "--pairs", pairs, "--output", f"of_{name}")
        assert command("evaluate", "--checkpoint", world / name, *options)[0] == 0
    figures = compared(command("compare", "of_old", "of_new", "--json"))
    assert figures["pairs"] == {"same": 6, "different": 30}
    assert figures["identities"] == 6
    assert "accuracy" not in figures["figures"]
    kept = read_scored(Path("of_old")).pairs
    assert figures["figures"]["auc"]["a"] == pytest.approx(auc(kept.distances, kept.same))
    metrics = json.loads(Path("of_old/metrics.json").read_text())
    assert metrics["auc"] == pytest.approx(figures["figures"]["auc"]["a"])
    # A search has no pairs, and leaves none of an earlier evaluation behind.
    search = ("--data", "loose_crop", "--pairs", janus / "ijbc_1N_probe_mixed.csv")
    options = ("--checkpoint", world / "old", "--output", "of_old", *search)
    assert command("evaluate", *options)[0] == 0
    assert_told(command("compare", "of_old", "of_new"), "of_old: has no pairs of an evaluation")
    trials = [
        f"{int(a == b)} id{a}/0.wav id{b}/{i}.wav"
        for a in range(10)
        for b in range(10)
        for i in (2, 3)
    ]
    options = ("--data", voices / "voices.npz", "--pairs", write(Path("trials"), *trials))
    for name in ("one", "other"):
        given = ("--checkpoint", voices / "run", "--output", name, *options)
        assert command("evaluate", *given)[0] == 0
    figures = compared(command("compare", "one", "other", "--json"))
    assert figures["identities"] == 10
    assert figures["figures"]["eer"]["difference"] == 0
    assert_told(
        command("compare", "one", "of_new"),
        "one was evaluated by trials, of_new by ijbc_template_pair_label.txt; evaluate both",
    )
