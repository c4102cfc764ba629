"""Claims about text files as people save them, and about names that look alike."""

from __future__ import annotations

import csv
import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from command_runs import Command, assert_told
from small_runs import Facenet, write_faces
from test_command_identify import store

from facenet_ext._files import replacing
from facenet_ext.cli.train_options import parse
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import write_text
from facenet_ext.common.text import number_names, read_lines, read_text
from facenet_ext.data.features import read_features
from facenet_ext.data.image_list import list_identities
from facenet_ext.data.pairs_file import read_pairs
from facenet_ext.embedding.options import DataOptions
from facenet_ext.evaluation.held_out import list_val
from facenet_ext.evaluation.protocols import make_protocol, read_protocol
from facenet_ext.recognition import read_embeddings

PAIRS = "2 1\nJosé 1 2\nJosé 1 Zoë 1\nZoë 1 2\nZoë 2 José 2\n"


def nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def nfd(name: str) -> str:
    return unicodedata.normalize("NFD", name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_text_is_read_as_any_editor_saves_it(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(f"José{end}a\u2028b\x0cc{end}{end}".encode(encoding))
    assert read_lines(path) == ["José", "a\u2028b\x0cc", ""]
    path.write_bytes(f"José{end}Zoë".encode(encoding))
    assert read_lines(path) == ["José", "Zoë"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("é".encode("utf-16"), "is in UTF-16; save it as UTF-8"),
        (b"\xfe\xff" + "é".encode("utf-16-be"), "is in UTF-16; save it as UTF-8"),
        ("é".encode("utf-32"), "is in UTF-32; save it as UTF-8"),
        ("a b".encode("utf-16-le"), "holds zero bytes, so it is in UTF-16 or no text"),
        ("a\nJosé".encode("latin-1"), "is not in UTF-8: line 2 has the byte 0xe9"),
        (None, r"cannot be read \(No such file or directory\)"),
    ],
)
def test_what_is_wrong_with_a_text_is_told(
    tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "names.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"names\.txt: {told}"):
        read_text(path)


def test_every_text_file_of_a_users_has_one_reader(command: Command, facenet: Facenet) -> None:
    write_faces(Path("faces"), {"José": 2, "Zoë": 2})
    one, two = "José/José_0001.png", "Zoë/Zoë_0001.png"
    for name, text in {
        "pairs.txt": PAIRS,
        "pairs.csv": f"first,second,same\n{one},{one},1\n{two},{two},1\n" + f"{one},{two},0\n" * 2,
        "splits.txt": "split, first, second, same\n"
        + "".join(f"{i}, José, José, 1\n{i}, José, Zoë, 0\n" for i in (1, 2)),
    }.items():
        for encoding in ("utf-8-sig", "utf-16"):
            Path(name).write_bytes(text.replace("\n", "\r\n").encode(encoding))
            if encoding == "utf-8-sig":
                protocol = read_protocol("faces", name)
                assert protocol.images.ids[0] == one
                assert protocol.pairs.same.tolist().count(True) == 2
            else:
                told = rf"{name}: the pairs file is in UTF-16; save it as UTF-8"
                with pytest.raises(InputError, match=told):
                    read_protocol("faces", name)
    np.save("e.npy", np.eye(4, dtype=np.float32))
    np.save("l.npy", np.array([0, 0, 1, 1]))
    arguments = ("mine", "e.npy", "--labels", "l.npy", "--names", "names.txt")
    Path("names.txt").write_bytes("Ann\r\nBob\r\nJosé\r\nZoë".encode("utf-16"))
    assert_told(command(*arguments), "--names names.txt: is in UTF-16; save it as UTF-8")
    Path("names.txt").write_bytes("Ann\r\nBob\r\nJosé\r\nZoë".encode("utf-8-sig"))
    assert command(*arguments)[0] in (0, 1)
    rows = csv.DictReader(Path("mined/suspects.csv").read_text(encoding="utf-8").splitlines())
    assert {row["name"] for row in rows} == {"Ann", "Bob", "José", "Zoë"}
    Path("config.yaml").write_bytes("width: 3\r\noutput: José\r\n".encode("utf-8-sig"))
    options = parse(["--config", "config.yaml"], "facenet train")[0]
    assert (options.model.width, options.run.output) == (3, "José")
    Path("config.yaml").write_bytes("output: José".encode("utf-16"))
    for given in (("--config", "config.yaml"), ("--config=config.yaml",)):
        assert_told(facenet(*given), "--config config.yaml: is in UTF-16; save it as UTF-8")


def test_edited_names_of_stored_embeddings_are_read(command: Command) -> None:
    store("gallery", [[1.0, 0], [0, 1.0]], ["Ann", "Bob"])
    Path("gallery/identities.txt").write_bytes("José\r\nBob".encode("utf-8-sig"))
    assert read_embeddings(Path("gallery")).identities == ["José", "Bob"]


@pytest.mark.parametrize("text_form", [nfc, nfd])
def test_names_of_two_forms_are_one_person(tmp_path: Path, text_form: Callable[[str], str]) -> None:
    """The pairs of a file, and folders: one spelt as the text, one the other way."""
    faces = write_faces(tmp_path / "faces", {nfd("José"): 2, nfc("Zoë"): 2, "Ann": 2})
    write_faces(faces, {nfc("José"): 3})
    (faces / nfc("José") / f"{nfc('José')}_0001.png").unlink()
    (faces / nfc("José") / f"{nfc('José')}_0002.png").unlink()
    images = list_identities(faces)
    assert len(set(images.people)) == 3, "both folders are José's"
    assert all(path.is_file() for path in images.paths)
    (tmp_path / "pairs.txt").write_text(text_form(PAIRS), encoding="utf-8")
    located, _, _ = read_pairs(tmp_path / "pairs.txt").locate(images)
    assert all(path.is_file() for path in located.paths)
    protocol = read_protocol(str(faces), str(tmp_path / "pairs.txt"))
    assert set(protocol.images.identities) == {nfd("José"), nfc("Zoë")}, "as the folders are called"
    assert all(protocol.images.path(row).is_file() for row in range(len(protocol.images)))
    one, two = (f"{name}/{name}_0001.png" for name in map(text_form, ("José", "Zoë")))
    other = f"{text_form('José')}/{text_form('José')}_0002.png"
    lines = ["first,second,same", f"{one},{other},1", f"{nfd(one)},{two},0"]
    csv_file = tmp_path / "pairs.csv"
    csv_file.write_text("\n".join([*lines, *lines[1:]]), encoding="utf-8")
    protocol = read_protocol(str(faces), str(csv_file))
    assert len(protocol.items) == 3, "an image is one, however it is spelt"
    assert all(protocol.images.path(row).is_file() for row in range(3))
    csv_file.write_text("first,second,same\nJosé/none.png,Zoë/none.png,1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"line 2: no image .*José/none\.png"):
        read_protocol(str(faces), str(csv_file))


def test_all_pairs_and_who_is_held_out_go_by_the_person(tmp_path: Path) -> None:
    people = {f"é{number}": 4 for number in range(8)}
    composed = write_faces(tmp_path / "nfc", people)
    decomposed = write_faces(tmp_path / "nfd", {nfd(name): 4 for name in people})
    held_out, again = (
        set(list_val(DataOptions(data=str(root), held_out=0.5))[0].people)
        for root in (composed, decomposed)
    )
    assert held_out == again
    theirs, _ = list_identities(decomposed).divide({nfc(name) for name in held_out})
    protocol = make_protocol(theirs, None)
    assert len(protocol.images) == 16
    mixed = tmp_path / "mixed"
    shutil.copytree(composed, mixed)
    for name in people:
        (mixed / nfd(name)).mkdir()
        (mixed / name / f"{name}_0001.png").rename(mixed / nfd(name) / "1.png")
    protocol = read_protocol(str(mixed))
    assert int(protocol.pairs.same.sum()) == 8 * 6


def test_names_that_are_no_text_spoil_no_list(command: Command, world: Path) -> None:
    shutil.copytree(world / "faces", "faces")
    for name in (b"caf\xe9.png", b"two\nlines.png", b"[red].png"):
        shutil.copy(b"faces/Person_00/Person_00_0001.png", b"faces/Person_00/" + name)
    assert command("mine", world / "old", "--data", "faces")[0] == 0
    names = read_lines(Path("mined/names.txt"))
    assert len(names) == len(np.load("mined/labels.npy"))


def test_labels_of_features_go_by_the_person(tmp_path: Path) -> None:
    names = np.array([nfd("José"), nfc("José"), "Ann"])
    np.savez(tmp_path / "f.npz", features=np.eye(3), labels=names)
    _, labels = read_features("data", str(tmp_path / "f.npz"))
    assert labels.tolist() == [nfc("José"), nfc("José"), "Ann"]


def test_who_is_recognised_goes_by_the_person(command: Command) -> None:
    store("gallery", [[1.0, 0], [0, 1.0]], [nfd("José"), nfc("Zoë")])
    store("probe", [[0.9, 0], [0, 0.9], [0.8, 0]], [nfc("José"), nfd("Zoë"), nfd("José")])
    _, out, _ = command("identify", "gallery", "probe", "--threshold", 0.5, "--json")
    figures = json.loads(out)
    assert figures["rates"]["known_probes"] == 3
    assert figures["rates"]["rank_1"] == 1.0
    assert figures["probes"][0]["identity"] == nfd("José"), "as it is called in the gallery"
    store("both", [[1.0, 0], [0.9, 0], [0, 1.0]], [nfd("José"), nfc("José"), "Ann"])
    _, out, _ = command("cluster", "both", "--threshold", 0.5, "--json")
    assert json.loads(out)["scores"]["pair_f"] == 1.0
    status, out, _ = command("mine", "both", "--json")
    assert (status, json.loads(out)["duplicates"]) == (0, 0)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "figures.txt"
    write_text(path, "before")
    with pytest.raises(UnicodeEncodeError), replacing(path) as unfinished:
        unfinished.write_text("half \udcff", encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["figures.txt"]
    assert path.read_text() == "before"


def test_names_are_numbered_by_what_they_look_like() -> None:
    names, numbers = number_names(["Zoe\u0308", "Ann", "Zo\u00eb"])
    assert names == ["Ann", "Zoe\u0308"]
    assert numbers.tolist() == [1, 0, 1]
    assert number_names([])[1].dtype == np.int64
