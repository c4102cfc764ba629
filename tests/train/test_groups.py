"""Claims about error rates by groups: the file, who is in which group, the report and its JSON."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runs import Command, assert_told
from test_trials import NFC, NFD, write

from facenet_ext.common.errors import InputError
from facenet_ext.data.groups_file import GroupsFile, read_groups
from facenet_ext.evaluation.compared import Compared, percent
from facenet_ext.evaluation.groups import Grouping, divide, rates_by_group
from facenet_ext.metrics.sources import TensorPairs

BOM = b"\xef\xbb\xbf"


def of_rows(*rows: str, header: str = "identity,sex", path: str = "g.csv") -> GroupsFile:
    return read_groups(write(Path(path), header, *rows))


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_file_has_a_line_for_each_name() -> None:
    path = write(
        Path("g.csv"),
        "who, sex ,age",
        f'{NFD},f,"30, or so"',
        "",
        " Bob , m,",
        end="\r\n",
        start=BOM,
    )
    found = read_groups(path)
    assert found.lines == {NFC: 2, "Bob": 4}
    assert found.columns == {"sex": {NFC: "f", "Bob": "m"}, "age": {NFC: "30, or so", "Bob": ""}}


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "line 1 must name two columns or more, as 'identity,sex,age', it is ''"),
        (["identity"], "it is 'identity'"),
        (["a,b,b", "x,y,z"], "it is 'a,b,b'"),
        (["a,,c", "x,y,z"], "it is 'a,,c'"),
        (["a,b"], "has no lines; expected one for each image, or for each person"),
        (
            ["a,b", "x,1", "y", "x,2", ",3"],
            "line 3 must have 2 fields, the first of them a name, it is 'y'; line 4 names x again, "
            "after line 2; line 5 must have 2 fields, the first of them a name, it is ',3'",
        ),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_lines(lines: list[str], told: str) -> None:
    with pytest.raises(InputError, match=re.escape(told)):
        read_groups(write(Path("g.csv"), *lines))


def test_people_and_images_are_divided_by_their_names() -> None:
    ids, people = ["Ann/1.png", "Ann/2.png", "Bob/1.png"], ["Ann", "Ann", "Bob"]
    items = [[0], [1], [2], [0, 1], [1, 2]]
    by_person = of_rows("Ann,f", "Bob,m", "Zoe,f")
    (found,), passed_over = divide(by_person, [], items, ids, people)
    assert (found.column, found.names, passed_over) == ("sex", ["f", "m"], [])
    assert found.groups.tolist() == [0, 0, 1, 0, -1], "a video of two groups is in none"
    by_image = of_rows("Ann/1.png,in", "Bob/1.png,out", header="image,place")
    (found,), _ = divide(by_image, ["place"], items, ids, people)
    assert found.groups.tolist() == [0, -1, 1, 0, 1], "what has no line counts for nothing"
    assert found.among([2, 0]).groups.tolist() == [1, 0]


def test_numbers_are_in_order_and_many_of_them_make_quarters() -> None:
    people = [f"p{i:02d}" for i in range(20)]
    items = [[row] for row in range(20)]
    few = of_rows(*(f"{name},{(i * 7) % 3 * 10}" for i, name in enumerate(people)), header="n,age")
    (found,), _ = divide(few, [], items, people, people)
    assert found.names == ["0", "10", "20"]
    many = of_rows(*(f"{name},{i / 8}" for i, name in enumerate(people[:-1])), header="n,score")
    (found,), _ = divide(many, [], items, people, people)
    assert found.names == ["0 to 0.5", "0.625 to 1.125", "1.25 to 1.625", "1.75 to 2.25"]
    assert found.groups.tolist() == [0] * 5 + [1] * 5 + [2] * 4 + [3] * 5 + [-1]


def test_columns_that_make_no_groups_are_passed_over() -> None:
    people = [f"p{i:02d}" for i in range(20)]
    rows = [f"{name},f{i},same,{'ab'[i % 2]}" for i, name in enumerate(people)]
    file = of_rows(*rows, header="n,file,one,half")
    items = [[row] for row in range(20)]
    found, passed_over = divide(file, [], items, people, people)
    assert [one.column for one in found] == ["half"]
    assert passed_over == [
        "column file of g.csv makes 20 groups: 2 to 12 can be compared",
        "column one of g.csv makes 1 group: 2 to 12 can be compared",
    ]
    with pytest.raises(InputError, match=r"g\.csv: column file of g\.csv makes 20 groups"):
        divide(file, ["file"], items, people, people)
    with pytest.raises(InputError, match=r"`group_by` sex: g\.csv has no such column; it has file"):
        divide(file, ["sex"], items, people, people)
    with pytest.raises(InputError, match=r"names none of the images or people: .* 'p00'.* 'x'"):
        divide(file, [], [[0]], ["x"], ["y"])


def test_rates_are_those_of_the_pairs_of_each_two_groups() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60) // 3
    first, second = torch.triu_indices(60, 60, offset=1)
    same = labels[first] == labels[second]
    distances = torch.rand(len(same), generator=generator) + 0.5 * ~same
    groups = labels % 2
    groups[:3] = -1
    grouping = Grouping("sex", ["f", "m"], groups)
    for known in (labels, None):
        compared = Compared(TensorPairs(distances, same, first, second), 0.7, known)
        found = rates_by_group(compared, grouping)
        assert [found.name_of(one) for one in found.rates] == ["f", "f with m", "m"]
        assert (found.items, found.unknown) == ([27, 30], 3)
        within = (groups[first] == 0) & (groups[second] == 0)
        assert (
            found.rates[0].fmr
            == ((distances <= 0.7) & ~same & within).sum() / (~same & within).sum()
        )
        told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
        assert told["items"] == {"f": 27, "m": 30}
        assert told["rates"][1]["groups"] == ["f", "m"]
        assert told["rates"][1]["fnmr"] is None
        assert told["rates"][1]["fnmr_remark"] == "no same pairs"
        assert (told["rates"][0]["fmr_interval"][0] is None) == (known is None)
        assert bool(found.in_short) == (known is not None)


@pytest.mark.parametrize("apart", [False, True])
def test_groups_that_surely_differ_are_named(apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(240) // 4
    first, second = torch.triu_indices(240, 240, offset=1)
    same = labels[first] == labels[second]
    distances = torch.randn(len(same), generator=generator) * 0.2 + 1 - 0.4 * same
    groups = labels % 2
    if apart:
        distances += 0.3 * (same & (groups[first] == 1))
    compared = Compared(TensorPairs(distances, same, first, second), 0.8, labels)
    found = rates_by_group(compared, Grouping("camera", ["old", "new"], groups))
    if apart:
        old, new = found.rates[0].fnmr, found.rates[2].fnmr
        expected = f"FNMR is {percent(new)} for new and {percent(old)} for old"
        assert found.in_short == f"By camera, {expected}: chance alone does not explain that."
    else:
        assert found.in_short == "By camera, no two groups surely differ."


def figures_of(result: tuple[int, str, str]) -> Any:
    status, out, err = result
    assert status == 0, err
    return json.loads(out)


def test_the_report_has_the_rates_of_groups(command: Command, world: Path) -> None:
    people = [f"Person_{i:02d}" for i in range(12)]
    write(
        Path("people.csv"),
        "identity,sex,camera,number",
        *(f"{name},{'fm'[i % 2]},cam {i % 3},{i * i}" for i, name in enumerate(people)),
    )
    options = ("--checkpoint", world / "old", "--data", world / "faces", "--quality", 0)
    options += ("--output", "report", "--groups", "people.csv", "--json")
    figures = figures_of(command("evaluate", *options))
    assert [one["column"] for one in figures["groups"]] == ["sex", "camera", "number"]
    (sex, camera, number) = figures["groups"]
    assert sex["items"] == {"f": 24, "m": 24}
    assert sex["unknown"] == 4
    assert sex["threshold"] == figures["threshold"]
    assert [one["groups"] for one in sex["rates"]] == [["f", "f"], ["f", "m"], ["m", "m"]]
    assert sum(one["different"] for one in sex["rates"]) == 48 * 47 // 2 - 12 * 6
    assert len(camera["rates"]) == 6
    assert len(number["items"]) == 4
    low, high = sex["rates"][0]["fmr_interval"]
    assert low <= sex["rates"][0]["fmr"] <= high
    page = Path("report/report.html").read_text()
    for column in ("sex", "camera", "number"):
        assert f"Groups: {column}</h2>" in page
    assert 'alt="FMR by sex"' in page
    assert "f with m" in page
    assert "no same pairs" in page
    for told in re.findall(r"By \w+, [^.]*", page):
        assert told.startswith(("By sex, ", "By camera, ", "By number, "))
    assert len(re.findall(r"<p>[^<]*By sex, [^<]*By camera, [^<]*</p>", page)) == 1
    assert "--groups" in figures["command"]
    assert str(Path("people.csv").resolve()) in figures["command"]
    some = figures_of(command("evaluate", *options, "--group-by", "camera, sex"))
    assert [one["column"] for one in some["groups"]] == ["camera", "sex"]
    _, out, _ = command("evaluate", *options[:-1], "--group-by", "sex")
    assert "groups by sex, threshold" in out
    assert re.search(r"f with m +│ +│ \d", out), "no FNMR, for want of pairs of one person"


def test_templates_have_groups_too(command: Command, world: Path) -> None:
    name = "Person_0{}/Person_0{}_000{}.png"
    lines = [f"1 {name.format(i, i, 1)} {name.format(i, i, 2)}" for i in range(6)]
    lines += [
        f"0 {name.format(i, i, 1)} {name.format(j, j, 2)}"
        for i in range(6) for j in range(6) if i != j
    ]  # fmt: skip
    path = write(Path("trials"), *lines)
    write(Path("people.csv"), "who,sex", *(f"Person_0{i},{'fm'[i % 2]}" for i in range(6)))
    options = ("--checkpoint", world / "old", "--data", world / "faces", "--output", "report")
    options += ("--pairs", path, "--groups", "people.csv", "--json")
    (sex,) = figures_of(command("evaluate", *options))["groups"]
    assert [(one["same"], one["different"]) for one in sex["rates"]] == [(3, 6), (0, 18), (3, 6)]
    assert sex["items"] == {"f": 6, "m": 6}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--group-by", "sex"], "--group-by sex: goes with --groups, a .csv"),
        (["--groups", "nowhere.csv"], "nowhere.csv: the file of groups cannot be read"),
        (["--groups", "people.csv"], "people.csv: names none of the images or people"),
        (["--groups", "one.csv", "--group-by", "x"], "--group-by x: one.csv has no such column"),
    ],
)
def test_what_it_cannot_do_is_one_line(
    options: list[str], told: str, command: Command, world: Path
) -> None:
    write(Path("people.csv"), "identity,sex", "Ann,f", "Bob,m")
    write(Path("one.csv"), "identity,sex", "Person_00,f", "Person_01,m")
    given = ["--checkpoint", world / "old", "--data", world / "faces", "--output", "report"]
    assert_told(command("evaluate", *given, *options), told)
    assert not Path("report").exists()
