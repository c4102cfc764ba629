"""Claims about protocols of templates: how their files are read, pooled, scored and summarised."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from facenet_ext.common.errors import InputError
from facenet_ext.data import trials_file
from facenet_ext.data.templates import Templates, read_enrolment, read_media, read_subjects
from facenet_ext.data.trials_file import TrialBlock, kind_of
from facenet_ext.evaluation import trial_scores
from facenet_ext.evaluation.trial_scores import (
    PooledTemplates,
    pool,
    score,
    search,
)
from facenet_ext.evaluation.trials import Search, Trials, locate, read_trials

NFC, NFD = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
BOM = b"\xef\xbb\xbf"


def write(path: Path, *lines: str, end: str = "\n", start: bytes = b"") -> Path:
    path.write_bytes(start + "".join(line + end for line in lines).encode())
    return path


def trials_of(path: Path, enrol: Path | None = None) -> Trials:
    found = read_trials(path, enrol)
    assert isinstance(found, Trials)
    return found


def listed(trials: Trials) -> list[tuple[str, str, bool]]:
    """The trials by the ids of their templates."""
    ids = trials.templates.ids
    return [
        (ids[first], ids[second], bool(same))
        for block in trials
        for first, second, same in zip(*block, strict=True)
    ]


def janus(root: Path, prefix: str = "ijbb") -> Path:
    """Four templates of two people, and pairs of them, as InsightFace's files tell it."""
    root.mkdir(exist_ok=True)
    media = ["1.jpg 10 5", "2.jpg 10 6", "3.jpg 10 6", "4.jpg 11 5", "5.jpg 12 7", "6.jpg 13 8"]
    write(root / f"{prefix}_face_tid_mid.txt", *media)
    return write(root / f"{prefix}_template_pair_label.txt", "10 11 1", "12 13 1", "10 12 0")


def galleries(root: Path, prefix: str = "ijbb") -> Path:
    """Two galleries and probes of the same."""
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID"
    write(root / f"{prefix}_1N_gallery_S1.csv", header, "10,1,a.jpg,5", "10,1,b.jpg,6")
    write(root / f"{prefix}_1N_gallery_S2.csv", header, "12,2,c.jpg,7")
    return write(root / f"{prefix}_1N_probe_mixed.csv", header, "11,1,d.jpg,5", "13,2,e.jpg,8")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("1 11065 1", "templates"),
        ("11\t12\t0", "templates"),
        ("1 id1/a/1.wav id2/b/2.wav", "VoxCeleb"),
        ("0 12 34", "VoxCeleb"),
        ("a b target", "Kaldi"),
        ("a\tb\tnontarget", "Kaldi"),
        ("12,34", "matches"),
        ("TEMPLATE_ID, SUBJECT_ID,FILENAME", "probes"),
        ("10\t300", None),
        ("first,second,same", None),
        ("1, A/0, B/0, 0", None),
        ("a b c", None),
        ("", None),
    ],
)
def test_the_first_line_says_what_kind_a_file_is_of(
    line: str, kind: str | None, tmp_path: Path
) -> None:
    for start, end in ((b"", "\n"), (BOM, "\r\n"), (b"\n\n", "\r")):
        assert kind_of(write(tmp_path / "file", line, "x", start=start, end=end)) == kind
    assert kind_of(write(tmp_path / "file", line, end="")) == kind
    assert kind_of(tmp_path / "nowhere") is None
    assert kind_of(tmp_path) is None


def test_trials_of_utterances_in_both_forms(tmp_path: Path) -> None:
    expected = [("a/1.wav", "b/1.wav", False), ("a/1.wav", "a/2.wav", True)]
    vox = ["0 a/1.wav b/1.wav", "1 a/1.wav a/2.wav"]
    kaldi = ["a/1.wav b/1.wav nontarget", "a/1.wav a/2.wav target"]
    for lines in (vox, kaldi):
        for separator in (" ", "\t", "   ", " \t "):
            for start, end in ((b"", "\n"), (BOM, "\r\n"), (b"\n", " \n\n"), (b"", "\r")):
                rows = [separator.join(line.split()) for line in lines]
                path = write(tmp_path / "trials", *rows, start=start, end=end)
                trials = trials_of(path)
                assert listed(trials) == expected, (rows, start, end)
                assert (trials.same, trials.different, len(trials)) == (1, 1, 2)
                assert trials.templates.items == ["a/1.wav", "b/1.wav", "a/2.wav"]


def test_a_line_that_stands_twice_is_two_trials(tmp_path: Path) -> None:
    trials = trials_of(write(tmp_path / "t", "1 a b", "1 a b", "0 a c"))
    assert (trials.same, trials.different) == (2, 1)
    assert trials.templates.items == ["a", "b", "c"]


def test_names_are_compared_as_they_look(tmp_path: Path) -> None:
    trials = trials_of(write(tmp_path / "t", f"1 {NFC} {NFD}", f"0 {NFD} b"))
    assert trials.templates.items == [NFC, "b"]
    assert locate(trials, ["b", NFD], "data").tolist() == [1, 0]


def test_names_mean_nothing_else(tmp_path: Path) -> None:
    """What a reader of tables takes for no value, a number or a quote is a name."""
    names = ["NA", "null", "nan", "1", "true", '"a', "#b", "\\n", "'", "a,b", "-", "1e3"]
    lines = [f"{at % 2} {name} NULL" for at, name in enumerate(names)]
    trials = trials_of(write(tmp_path / "t", "0 x y", *lines))
    assert listed(trials)[1:] == [(name, "NULL", at % 2 == 1) for at, name in enumerate(names)]


def test_several_utterances_enrol_a_model(tmp_path: Path) -> None:
    enrol = write(tmp_path / "spk2utt", f"{NFD} u1 u2", "m2\tu3", start=BOM, end="\r\n")
    path = write(tmp_path / "trials", f"{NFC} u3 nontarget", "m2 u3 target", f"{NFC} u4 target")
    trials = trials_of(path, enrol)
    assert trials.templates.ids == [NFC, "m2", "u3", "u4"]
    assert trials.templates.items == ["u1", "u2", "u3", "u4"]
    assert listed(trials) == [(NFC, "u3", False), ("m2", "u3", True), (NFC, "u4", True)]
    x = np.array([[1, 0], [0, 1], [1, 0], [-1, 0]], np.float32)
    pooled = pool(x, np.arange(4), trials.templates)
    half = 0.5**0.5
    assert pooled.embeddings == pytest.approx(np.array([[half, half], [1, 0], [1, 0], [-1, 0]]))
    scores = score(pooled, trials, len(trials)).scores
    assert scores == pytest.approx([half, 1, -half], abs=1e-6)


def test_a_model_may_have_the_name_of_an_utterance(tmp_path: Path) -> None:
    enrol = write(tmp_path / "spk2utt", "a b", "b a")
    trials = trials_of(write(tmp_path / "trials", "1 a b", "0 a a"), enrol)
    assert trials.templates.ids == ["a", "b", "b", "a"]
    pooled = pool(np.eye(2, dtype=np.float32), np.arange(2), trials.templates)
    assert score(pooled, trials, 2).scores.tolist() == [1.0, 0.0]


def test_pairs_of_templates_and_their_media(tmp_path: Path) -> None:
    trials = trials_of(janus(tmp_path / "meta"))
    assert listed(trials) == [("10", "11", True), ("12", "13", True), ("10", "12", False)]
    assert trials.templates.items == [f"{i}.jpg" for i in range(1, 7)]
    assert trials.identities().tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    galleries(tmp_path / "meta")
    assert trials_of(trials.file.path).templates.subjects == ["1", "1", "2", "2"]
    matches = write(tmp_path / "meta" / "ijbb_11_S1_S2_matches.csv", "10,11", "12,13", "10,12")
    assert listed(trials_of(matches)) == listed(trials)
    few = trials_of(write(trials.file.path, "10 11 1", "10 12 0", "10 13 0"))
    assert few.identities([*"uvwxyz"]).tolist() == [0, 0, 1, 1], "as the protocol's files say"


def test_the_files_of_two_protocols_may_lie_together(tmp_path: Path) -> None:
    one, two = janus(tmp_path), janus(tmp_path, "ijbc")
    write(
        tmp_path / "ijbc_face_tid_mid.txt", "x.jpg 10 1", "y.jpg 11 1", "z.jpg 12 1", "z.jpg 13 1"
    )
    assert trials_of(one).templates.items[0] == "1.jpg"
    assert trials_of(two).templates.items == ["x.jpg", "y.jpg", "z.jpg"]
    other = write(tmp_path / "pairs.txt", "10 11 1", "10 12 0")
    with pytest.raises(InputError, match=r"pairs\.txt: compares templates, and pairs\.txt_face"):
        read_trials(other)


def random_templates(rng: np.random.Generator, images: int, templates: int) -> Templates:
    """Each template has an image, the others fall anywhere; few media, so that many share one."""
    template = np.concatenate([np.arange(templates), rng.integers(0, templates, images)])
    item = rng.integers(0, images, len(template))
    _, kept = np.unique(template * images + item, return_index=True)
    rng.shuffle(kept)
    template, item = template[kept], item[kept]
    ids = [str(number) for number in range(templates)]
    return Templates(
        ids, [f"{i}.jpg" for i in range(images)], template, item, item % 5, [""] * templates
    )


def pooled_slowly(x: Any, rows: Any, templates: Templates) -> NDArray[np.float64]:
    """The protocol by its words, in float64."""
    out = np.zeros((len(templates.ids), x.shape[1]))
    for at in range(len(templates.ids)):
        own = templates.template == at
        means = []
        for media in np.unique(templates.media[own]):
            members = rows[templates.item[own & (templates.media == media)]]
            if (members >= 0).any():
                means.append(x[members[members >= 0]].astype(np.float64).mean(0))
        if means:
            mean = np.mean(means, axis=0)
            out[at] = mean / np.linalg.norm(mean)
    return out


@pytest.mark.parametrize("seed", range(4))
def test_templates_are_pooled_media_by_media(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("facenet_ext.evaluation.trial_scores._ROWS", 13)
    rng = np.random.default_rng(seed)
    templates = random_templates(rng, 97, 23)
    x = rng.standard_normal((80, 9)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows = rng.permutation(97) - 17  # some cannot be read, and the rows are in no order
    pooled = pool(x, np.maximum(rows, -1), templates)
    expected = pooled_slowly(x, rows, templates)
    assert pooled.embeddings == pytest.approx(expected, abs=1e-6)
    assert pooled.kept.tolist() == (np.linalg.norm(expected, axis=1) > 0).tolist()
    none = pool(x, np.full(97, -1), templates)
    assert not none.kept.any()
    assert not none.embeddings.any()


def blocks_of(first: Any, second: Any, same: Any, size: int) -> Iterator[TrialBlock]:
    for at in range(0, len(same), size):
        part = slice(at, at + size)
        yield TrialBlock(first[part].astype(np.int32), second[part].astype(np.int32), same[part])


@pytest.mark.parametrize(("count", "size"), [(1, 1), (511, 100), (1500, 513), (700, 700)])
def test_distances_are_in_the_order_of_the_trials(
    count: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_scores, "_CHUNK", 100)  # they are read back in several blocks
    monkeypatch.setattr(trial_scores, "_IN_MEMORY", 1000)  # of a file
    rng = np.random.default_rng(count)
    x = rng.standard_normal((300, 31)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    first, second = rng.integers(0, 300, (2, count))
    second[0] = first[0]
    x[(first[-1] + 1) % 300] = 0
    if count > 600:
        first[5:9], second[5:7] = (first[-1] + 1) % 300, (first[-1] + 1) % 300
    same = rng.random(count) < 0.5
    seen: list[tuple[int, int]] = []
    found = score(
        PooledTemplates(x, np.ones(300, bool)),
        blocks_of(first, second, same, size),
        count,
        lambda done, total: seen.append((done, total)),
    )
    cosines = (x[first].astype(np.float64) * x[second]).sum(1)
    assert found.distances == pytest.approx(2 - 2 * cosines, abs=2e-6)
    assert found.scores == pytest.approx(cosines, abs=1e-6)
    assert found.distances[0] == 0, "equal templates"
    assert found.same.tolist() == same.tolist()
    assert seen[-1] == (count, count)
    kept = rng.random(300) < 0.7
    pooled = PooledTemplates(x, kept)
    some = score(pooled, blocks_of(first, second, same, size), count)
    there = kept[first] & kept[second]
    assert some.distances.tolist() == found.distances[there].tolist()
    assert some.same.tolist() == same[there].tolist()
    assert some.left_out == int((~there).sum())
    codes = [end.tolist() for end in some.ends]
    assert codes == [first[there].tolist(), second[there].tolist()]
    assert some.ends[0].dtype == np.int16
    assert (len(some), sum(some.counts)) == (int(there.sum()),) * 2
    assert np.flatnonzero(some.used).tolist() == sorted({*codes[0], *codes[1]})


def test_probes_are_searched_in_each_gallery(tmp_path: Path) -> None:
    janus(tmp_path)
    protocol = read_trials(galleries(tmp_path))
    assert isinstance(protocol, Search)
    assert [gallery.name for gallery in protocol.galleries] == [
        "ijbb_1N_gallery_S1.csv",
        "ijbb_1N_gallery_S2.csv",
    ]
    x = np.array([[1, 0], [1, 0], [1, 0], [0.8, 0.6], [0, 1], [0.6, 0.8]], np.float32)
    first, second = search(pool(x, np.arange(6), protocol.templates), protocol, 2)
    assert first.truth.tolist() == [0, -1]
    assert first.mated.tolist() == [True, False]
    assert first.hits.tolist() == [[True, False], [False, False]], "-1 is nobody"
    assert second.truth.tolist() == [-1, 0]
    assert first.candidates.distances[:, 0].tolist() == pytest.approx([0.4, 0.8], abs=1e-6)
    assert first.candidates.identities.tolist() == [[0, -1], [0, -1]]
    lost = pool(x, np.array([0, 1, 2, -1, 4, 5]), protocol.templates)
    assert search(lost, protocol, 1)[0].truth.tolist() == [-1], "a probe that cannot be read"


def told(path: Path, enrol: Path | None = None) -> str:
    with pytest.raises(InputError) as error:
        read_trials(path, enrol)
    message = str(error.value)
    assert "\n" not in message
    assert str(path.parent) in message
    return message


def test_all_wrong_lines_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "t", "1 a b", "", "2 a b", "1 a", "0 a c", "1 a b c d")
    assert told(path) == (
        f"{path}: line 3 must be '1|0 enrol test', it is '2 a b'; line 4 must be "
        "'1|0 enrol test', it is '1 a'; line 6 must be '1|0 enrol test', it is '1 a b c d'"
    )
    write(path, "a b target", *["a b c"] * 12)
    assert told(path).endswith(
        "line 6 must be 'enrol test target|nontarget', it is 'a b c'; and 7 more"
    )
    janus(tmp_path)
    pairs = write(
        tmp_path / "ijbb_template_pair_label.txt", "10 11 1", "10 99 0", "10 12 x", "98 12 0"
    )
    assert told(pairs) == (
        f"{pairs}: line 2: there is no template 99; line 3 must be 'template template 1|0', it is "
        "'10 12 x'; line 4: there is no template 98"
    )


@pytest.mark.parametrize("kept", [0, 10**6])
def test_lines_are_counted_over_blocks(
    kept: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block may end anywhere in a line; what is wrong is in a late one."""
    monkeypatch.setattr(trials_file, "_KEPT", kept)
    lines = [f"{i % 2} utterance{i} utterance{i + 7}" for i in range(400)]
    path = write(tmp_path / "t", *lines, end="\r\n")
    whole = listed(trials_of(path))
    assert whole == [(f"utterance{i}", f"utterance{i + 7}", i % 2 == 1) for i in range(400)]
    for size in (7, 64, 1000):
        monkeypatch.setattr(trials_file, "_BLOCK", size)
        assert listed(trials_of(path)) == whole
    lines[333], lines[11] = "1 x", "  "
    assert "line 334 must be '1|0 enrol test', it is '1 x'" in told(write(path, *lines))


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        (["1 a b"], "has 1 trial of one identity and 0 trials of two"),
        (["0 a b"] * 2, "has 0 trials of one identity and 2 trials of two"),
        (["a b target"], "expected lines 'enrol test target|nontarget' of both kinds"),
    ],
)
def test_both_kinds_of_trial_are_needed(lines: list[str], why: str, tmp_path: Path) -> None:
    assert why in told(write(tmp_path / "t", *lines))


def test_files_that_are_no_text_or_empty(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"1 a b\n0 a \xe9\n")
    assert "line 2 has the byte 0xe9; save it as UTF-8" in told(path)
    for content in (b"", BOM, b"\n\n", "1 a b\n".encode("utf-16")):
        path.write_bytes(content)
        assert read_trials(path) is None
    media = write(tmp_path / "m")
    with pytest.raises(InputError, match=r"m: is empty; expected lines 'image template media'"):
        read_media(media)
    with pytest.raises(InputError, match=r"m: is empty; expected lines 'model utterance"):
        read_enrolment(media)
    with pytest.raises(InputError, match=r"m: line 1 must name columns TEMPLATE_ID and SUBJ.*''"):
        read_subjects(media)
    write(media, "TEMPLATE_ID,SUBJECT_ID")
    with pytest.raises(InputError, match=r"m: has 0 templates"):
        read_subjects(media)


def test_what_is_wrong_with_media_is_told(tmp_path: Path) -> None:
    path = write(
        tmp_path / "m", "1.jpg 1 1", "2.jpg 1", "1.jpg 1 2", "", "a b.jpg 2 3", "1.jpg 2 1"
    )
    with pytest.raises(InputError) as error:
        read_media(path)
    assert str(error.value) == (
        f"{path}: line 2 must be 'image template media', it is '2.jpg 1'; line 3 has image 1.jpg "
        "in template 1 again, after line 1"
    )
    templates = read_media(write(path, "1.jpg 1 1", "a b.jpg 2 3", "1.jpg 2 1", end="\r\n"))
    assert templates.items == ["1.jpg", "a b.jpg"]
    assert templates.template.tolist() == [0, 1, 1]


def test_what_is_wrong_with_an_enrolment_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "e", "m u1 u2", "n", "m u3", f"o {NFC} {NFD}")
    with pytest.raises(InputError) as error:
        read_enrolment(path)
    assert str(error.value) == (
        f"{path}: line 2 must be 'model utterance utterance ...', it is 'n'; line 3 enrols model m "
        f"again, after line 1; line 4 names utterance {NFC} twice"
    )
    trials = write(tmp_path / "t", "m u1 target", "x u1 nontarget", "m u3 nontarget")
    write(path, "m u1 u2")
    assert told(trials, path) == f"{trials}: line 2: there is no utterance x"
    assert "goes with `pairs` of utterances" in told(janus(tmp_path), path)


def test_what_is_wrong_with_galleries_is_told(tmp_path: Path) -> None:
    janus(tmp_path)
    probes = galleries(tmp_path)
    header = "TEMPLATE_ID,SUBJECT_ID"
    write(probes, header, "11,1", "11,2", "12", ",5", "", "77,3")
    assert told(probes) == (
        f"{probes}: line 3 has subject 2 for template 11, line 2 has 1; line 4 must have a "
        "TEMPLATE_ID and a SUBJECT_ID, it is '12'; line 5 must have a TEMPLATE_ID and a "
        "SUBJECT_ID, it is ',5'"
    )
    write(probes, header, "11,1", "77,3", "78,3", "77,3")
    assert told(probes) == (
        f"{probes}: line 3 lists template 77, which has no media; line 4 lists template 78, which "
        "has no media"
    )
    write(probes, header, "10,2")
    assert "line 2 has subject 2 for template 10, another file beside it has 1" in told(probes)
    for gallery in tmp_path.glob("*gallery*"):
        gallery.unlink()
    assert "there is no ijbb_1N_gallery_*.csv beside it" in told(probes)
    matches = write(tmp_path / "ijbb_11_S1_S2_matches.csv", "10,11", "12,13")
    probes.unlink()
    assert told(matches) == (
        f"{matches}: line 1: there is no subject of template 10; line 1: there is no subject of "
        "template 11; line 2: there is no subject of template 12; line 2: there is no subject of "
        "template 13"
    )
    (tmp_path / "ijbb_face_tid_mid.txt").unlink()
    assert "ijbb_face_tid_mid.txt beside it, which names their images, is missing" in told(matches)


def test_items_that_data_lacks_are_told_with_their_lines(tmp_path: Path) -> None:
    trials = trials_of(write(tmp_path / "t", "1 a b", f"0 a {NFD}", "0 c b"))
    with pytest.raises(InputError) as error:
        locate(trials, ["a", "x"], "voices.npz")
    assert str(error.value) == (
        f"{tmp_path / 't'}: line 1 names b, which voices.npz lacks; line 2 names {NFC}, which "
        "voices.npz lacks; line 3 names c, which voices.npz lacks"
    )
    enrol = write(tmp_path / "e", "m a u", "n x")
    enrolled = trials_of(write(tmp_path / "t", "m a target", "n b nontarget"), enrol)
    with pytest.raises(InputError) as error:
        locate(enrolled, ["a", "x"], "voices.npz")
    assert str(error.value) == (
        f"{enrol}: line 1 names u, which voices.npz lacks; {tmp_path / 't'}: line 2 names b, which "
        "voices.npz lacks"
    )
    write(tmp_path / "ijbb_face_tid_mid.txt", "a b.jpg 1 1", "c.jpg 2 1")
    blanks = trials_of(write(tmp_path / "ijbb_pairs.txt", "1 1 1", "1 2 0"))
    with pytest.raises(
        InputError, match=r"mid\.txt: line 2 names c\.jpg, .*; names a b\.jpg, which"
    ):
        locate(blanks, [], "x")


def test_identities_are_those_of_the_data_unless_a_trial_says_otherwise(tmp_path: Path) -> None:
    trials = trials_of(write(tmp_path / "t", "1 a b", "0 a c", "0 c d"))
    order = [trials.templates.items.index(name) for name in "abcd"]

    def found(whose: str) -> list[int]:
        by_name = dict(zip("abcd", whose, strict=True))
        numbers = trials.identities([by_name[name] for name in trials.templates.items])
        return [int(numbers[at]) for at in order]

    assert found("XXYX") == [0, 0, 1, 0], "a and d are of one, which no trial denies"
    for contradicted in ("XYYX", "XXXY"):
        numbers = found(contradicted)
        assert numbers[0] == numbers[1]
        assert len(set(numbers)) == 3
    assert len(set(trials.identities().tolist())) == 3
    enrol = write(tmp_path / "e", "m a b")
    enrolled = trials_of(write(tmp_path / "t", "1 m a", "0 m c"), enrol)
    assert enrolled.identities([*"XXY"]).tolist() == [0, 0, 1]
    enrol = write(tmp_path / "e", "m b a", "n c")
    mixed = trials_of(write(tmp_path / "t", "1 m a", "0 n e"), enrol)
    assert mixed.templates.items == [*"bace"]
    assert mixed.identities([*"XXYX"]).tolist() == [0, 1, 0, 0]
    assert mixed.identities([*"WXYX"]).tolist() == [0, 1, 0, 2], "a model of two speakers"


@pytest.mark.ci
def test_the_pairs_of_ijb_b_take_64_mib_in_all(tmp_path: Path) -> None:
    """8,010,270 trials are read, scored and summarised with intervals, in a process of their own.

    The trials themselves are in a file, and count as well as far as they are in memory. It is half
    of the limit that is measured. The time is that of the process alone, so that others do not
    count.
    """
    code = """
import sys, time
from pathlib import Path
import numpy as np
from facenet_ext.data.trials_file import TrialsFile
from facenet_ext.evaluation.compared import Compared
from facenet_ext.evaluation.trial_scores import PooledTemplates, score

count, templates = 8_010_270, 12_115
rng = np.random.default_rng(0)
x = rng.standard_normal((templates, 512), dtype=np.float32)
x /= np.linalg.norm(x, axis=1, keepdims=True)
pooled = PooledTemplates(x, np.ones(templates, bool))
places = {str(at): at for at in range(templates)}
path = Path(sys.argv[1])
with path.open("w") as file:
    for begin in range(0, count, 100_000):
        size = min(100_000, count - begin)
        pairs, same = rng.integers(0, templates, (2, size)).tolist(), rng.random(size) < 0.002
        lines = zip(*pairs, same.tolist())
        file.write("".join(f"{one} {other} {label:d}\\n" for one, other, label in lines))

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

def run(path, count):
    scored = score(pooled, TrialsFile(path, "templates", places, places), count)
    return Compared.of_trials(scored, np.arange(templates) % 1845).summary

small = path.with_name("small")
small.write_text("1 2 1\\n3 4 0\\n" * 1000)
run(small, 2000)
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before, start = status("VmRSS:"), time.process_time()
found = run(path, count)
seconds = time.process_time() - start
print(found.same + found.different, status("VmHWM:") - before, seconds)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pairs")],
        capture_output=True,
        text=True,
        check=True,
    )
    trials, mebibytes, seconds = map(float, ran.stdout.split())
    assert trials == 8_010_270
    assert mebibytes < 64
    assert seconds < 20, "6.4 s on a busy core of an AMD EPYC (Zen 4); 10 s on two quiet ones"
