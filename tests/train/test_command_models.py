"""Claims about ``facenet models``."""

import json

import pytest
from command_runs import Command, assert_told


@pytest.mark.ci
def test_the_table_has_every_network_with_the_papers_figures(command: Command) -> None:
    status, out, err = command("models", "--repeats", 0)
    assert (status, err) == (0, "")
    for figure in ("140,025,664", "1,608.", "7,456,304", "6,607,888", "160x160", "3x140x116"):
        assert figure in out
    for name in ("small", "nn1", "nn2", "nn3", "nn4", "nns1", "nns2"):
        assert name in out


def test_json_has_the_same_as_data(command: Command) -> None:
    status, out, _ = command("models", "--repeats", 0, "--json", "--in-channels", 1)
    assert status == 0
    rows = {row["network"]: row for row in json.loads(out)}
    assert rows["nn4"]["input"] == [1, 96, 96]
    assert rows["nn2"]["parameters"] == 7_456_304 - 2 * 64 * 49
    assert rows["nn2"]["milliseconds_per_image"] is None


@pytest.mark.slow
def test_time_per_image_is_measured(command: Command) -> None:
    status, out, _ = command("models", "--repeats", 1, "--batch", 1, "--json")
    assert status == 0
    assert all(row["milliseconds_per_image"] > 0 for row in json.loads(out))


def test_bad_options(command: Command) -> None:
    assert_told(command("models", "--batch", 0), "batch")
    assert_told(command("models", "--nonsense"), "--nonsense")
