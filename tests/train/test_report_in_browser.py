"""Claims about the report of an evaluation in a browser: what a reader sees, and what he does."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, Browser
from command_runs import Command
from PIL import Image

import facenet_ext.commands.image_evaluation as image_evaluation
from facenet_ext.evaluation.verification import Verification
from facenet_ext.metrics import error_rates, min_dcf

pytestmark = [
    pytest.mark.ci,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]

PHONE, DESK = 390, 1100

# The words of a page whose contrast with what is behind them is below 4.5, as WCAG asks at least.
PALE = """
(() => {
  const rgb = (css) => css.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const pale = [];
  for (const e of document.body.querySelectorAll("*")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.getClientRects().length || ["SCRIPT", "NOSCRIPT"].includes(e.tagName)) continue;
    const pair = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
    if ((pair[0] + 0.05) / (pair[1] + 0.05) < 4.5) pale.push(e.outerHTML.slice(0, 99));
  }
  return pale;
})()
"""

# The elements that reach beyond the window, or whose text is cut off.
CLIPPED = """
[...document.body.querySelectorAll("*")].filter((e) => e.getClientRects().length &&
  (e.getBoundingClientRect().right > innerWidth + 0.5 || e.scrollWidth > e.clientWidth + 1 &&
   getComputedStyle(e).overflowX !== "visible")).map((e) => e.outerHTML.slice(0, 99))
"""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as opened:
        yield opened


@pytest.fixture
def verified(command: Command, world: Path, monkeypatch: pytest.MonkeyPatch) -> Verification:
    """A report in report/, with groups, and the pairs that it is about."""
    found: list[Verification] = []
    original = image_evaluation.verify

    def verify(*arguments: torch.Tensor) -> Verification:
        found.append(original(*arguments))
        return found[0]

    monkeypatch.setattr(image_evaluation, "verify", verify)
    lines = [f"Person_{i:02d},{'fm'[i % 2]},camera {'ABC'[i % 3]}" for i in range(12)]
    Path("people.csv").write_text("\n".join(["identity,sex,camera", *lines]) + "\n")
    options = ("--data", world / "faces", "--quality", 30, "--groups", "people.csv", "--all-pairs")
    status, _, err = command(
        "evaluate", "--checkpoint", world / "old", "--output", "report", *options
    )
    assert status == 0, err
    return found[0]


def shown(browser: Browser) -> dict[str, float]:
    """The numbers that the page shows for the chosen threshold."""
    found = browser.ask(
        "Object.fromEntries(['threshold', 'fmr', 'fnmr', 'cost'].map((id) =>"
        " [id, Number(document.getElementById(id).value)]))"
    )
    assert isinstance(found, dict)
    return found


def words(browser: Browser, name: str) -> str:
    return str(browser.ask(f"document.getElementById('{name}').textContent"))


def assert_true(browser: Browser, verified: Verification) -> float:
    """Assert that the page tells of its threshold what the metrics say; return the threshold."""
    found = shown(browser)
    rates = error_rates(verified.distances, verified.pairs.same, found["threshold"])
    assert (found["fmr"], found["fnmr"]) == pytest.approx((rates.fmr, rates.fnmr), abs=1e-12)
    assert words(browser, "fmr-note").startswith(f"{rates.false_matches:,} of ")
    few = f"fewer than 30 errors: {rates.false_non_matches} false non-matches"
    assert (few in words(browser, "fnmr-note")) == (rates.false_non_matches < 30)
    return found["threshold"]


def test_a_reader_chooses_the_threshold(browser: Browser, verified: Verification) -> None:
    browser.open(Path("report/report.html"), DESK)
    figures = json.loads(Path("report/metrics.json").read_text())
    start = assert_true(browser, verified)
    assert start == figures["threshold"]
    told = figures["summary"]["figures"]
    assert shown(browser)["fmr"] == told["fmr"]["value"]
    low, high = told["fnmr"]["interval"]
    assert f"95\u00a0%: {100 * low:.3g}" in words(browser, "fnmr-note")
    assert f" to {100 * high:.3g}" in words(browser, "fnmr-note")
    # By the keyboard: to the right a threshold accepts more.
    browser.ask("document.getElementById('threshold-slider').focus()")
    before = shown(browser)
    browser.press("ArrowRight", 20)
    assert assert_true(browser, verified) > start
    after = shown(browser)
    assert after["fmr"] >= before["fmr"]
    assert after["fnmr"] <= before["fnmr"]
    assert (after["fmr"], after["fnmr"]) != (before["fmr"], before["fnmr"])
    browser.press("Home")
    strict = assert_true(browser, verified)
    assert shown(browser)["fmr"] <= before["fmr"]
    browser.press("End")
    assert_true(browser, verified)
    assert (shown(browser)["fmr"], shown(browser)["fnmr"]) == (1, 0)
    assert words(browser, "fmr") == "100%"
    # By the mouse.
    browser.click("threshold-slider", across=0.3)
    assert strict < assert_true(browser, verified) < start * 3
    browser.click("own")
    assert assert_true(browser, verified) == start
    assert browser.errors == []
    outside = [url for url in browser.requests if not url.startswith(("file:", "data:"))]
    assert outside == [], "the page needs no network"


def test_a_reader_says_what_mistakes_cost(browser: Browser, verified: Verification) -> None:
    browser.open(Path("report/report.html"), DESK)
    same = verified.pairs.same
    for share, miss, alarm in ((0.01, 1.0, 1.0), (0.3, 1.0, 1.0), (0.3, 5.0, 0.5)):
        for name, value in (("p-target", share), ("c-miss", miss), ("c-fa", alarm)):
            browser.click(name)
            browser.write(str(value))
        browser.click("own")
        found = shown(browser)
        of_miss, of_alarm = miss * share, alarm * (1 - share)
        cost = (of_miss * found["fnmr"] + of_alarm * found["fmr"]) / min(of_miss, of_alarm)
        assert found["cost"] == pytest.approx(cost)
        browser.click("least")
        assert_true(browser, verified)
        least = min_dcf(verified.distances, same, share, c_miss=miss, c_fa=alarm).cost
        assert least - 1e-9 <= shown(browser)["cost"] <= min(1.1 * least + 0.01, cost + 1e-9)
    browser.click("p-target")
    browser.write("1.5")
    assert words(browser, "cost") == "-"
    assert "between 0 and 1" in words(browser, "cost-note")
    assert browser.ask("document.getElementById('least').disabled")
    assert browser.errors == []


def test_the_chosen_threshold_is_marked_on_the_curves(
    browser: Browser, verified: Verification
) -> None:
    browser.open(Path("report/report.html"), DESK)
    place = (
        "[...document.querySelectorAll('.marker')].map((m) => {"
        " const p = m.parentElement.getBoundingClientRect(), r = m.getBoundingClientRect();"
        " return [(r.x + r.width / 2 - p.x) / p.width, (r.y + r.height / 2 - p.y) / p.height]; })"
    )
    det, roc = browser.ask(place)
    browser.ask("document.getElementById('threshold-slider').focus()")
    browser.press("ArrowRight", 10)
    moved_det, moved_roc = browser.ask(place)
    assert moved_det[0] > det[0], "more false matches"
    assert moved_det[1] >= det[1], "fewer false non-matches"
    assert moved_roc[0] > roc[0]
    assert moved_roc[1] <= roc[1]
    # Where the picture has the curve's colour.
    browser.ask("document.querySelectorAll('.marker').forEach((m) => m.remove())")
    image = Path("report/page.png")
    browser.picture(image)
    with Image.open(image) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    boxes = browser.ask(
        "[...document.querySelectorAll('.chart')].slice(0, 2).map((f) => {"
        " const r = f.getBoundingClientRect();"
        " return [r.x + scrollX, r.y + scrollY, r.width, r.height]; })"
    )
    for (x, y, width, height), (across, down) in zip(boxes, (moved_det, moved_roc), strict=True):
        column, row = round(x + across * width), round(y + down * height)
        around = pixels[row - 4 : row + 5, column - 4 : column + 5]
        assert (abs(around - [0, 0x72, 0xB2]).sum(2) < 150).any()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_nothing_is_clipped_or_pale(
    browser: Browser, verified: Verification, width: int, dark: bool
) -> None:
    browser.open(Path("report/report.html"), width, dark=dark)
    assert browser.ask("innerWidth") == width
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask(CLIPPED) == []
    assert browser.ask(PALE) == []
    page = browser.ask("getComputedStyle(document.body).backgroundColor")
    assert (page == "rgb(255, 255, 255)") != dark
    image = Path("report/page.png")
    browser.picture(image)
    with Image.open(image) as opened:
        pixels = np.asarray(opened.convert("L")).astype(float)
    # The white of the charts is the black of a dark page: nothing glares but the photos.
    assert np.median(pixels) == pytest.approx(26 if dark else 255, abs=2)
    assert pixels.shape[1] == width * (2 if width == PHONE else 1)
    assert math.isfinite(pixels.std())
    assert pixels.std() > 10
