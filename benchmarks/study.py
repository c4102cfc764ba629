"""Trains every run of study.yaml and records what each reached: `python -m benchmarks.study`.

``--plan study_aligned`` takes those of study_aligned.yaml, on faces that `facenet align` cuts out.

The people of val/ are kept for the final figure. The runs train on the training people who are not
in FOLDS of pairs_train.txt, and verify those folds. Recorded runs are not run again, and a run that
was stopped continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from benchmarks.machine import ROOT, describe
from facenet_ext.common.console import make_console

PLAN = Path(__file__).with_suffix(".yaml")
RESULTS = ROOT / "benchmarks" / "results" / "study.json"
PLANS = ("study", "study_aligned")
SCRATCH = ROOT / "benchmarks" / "out" / "study"
BASE = "the start"
FOLDS = (2, 4)  # of five, the two with the fewest images


@dataclasses.dataclass(frozen=True)
class Run:
    """One training: the preset with ``options``, which include those that every run has.

    ``align: false`` among them stands for images as they are in a plan whose images are aligned.
    """

    choice: str
    variant: str
    seed: int
    options: dict[str, Any]

    @property
    def name(self) -> str:
        words = f"{self.choice} {self.variant} {self.seed}".replace(".", "p")
        return "-".join("".join(c if c.isalnum() else " " for c in words).split())


@dataclasses.dataclass(frozen=True)
class Outcome(Run):
    """What a run reached on people it has not seen, and in how many minutes of processor time.

    The minutes of study.json were taken by the clock.
    """

    accuracy: float
    auc: float
    eer: float
    val_at_far_1e2: float
    minutes: float
    commit: str | None


def plan(path: Path = PLAN) -> tuple[str, list[Run]]:
    """Read the preset's name and every run."""
    content = yaml.safe_load(path.read_text())

    def runs() -> Iterator[Run]:
        choices = {BASE: {"": content["base"]}} | content["choices"]
        for choice, variants in choices.items():
            for variant, given in variants.items():
                options = {**content["every"], **given}
                for seed in options.pop("seeds", [0]):
                    yield Run(choice, variant, seed, {**options, "seed": seed})

    return content["preset"], list(runs())


def recorded(results: Path | None = None) -> list[Outcome]:
    """Read the recorded outcomes."""
    results = results or RESULTS
    if not results.is_file():
        return []
    return [Outcome(**entry) for entry in json.loads(results.read_text())["outcomes"]]


def outcome_of(run: Run, outcomes: list[Outcome]) -> Outcome | None:
    """The recorded outcome of a run with just these options."""
    for outcome in outcomes:
        if outcome.options == run.options and outcome.variant == run.variant:
            return outcome
    return None


def align(root: Path, folder: Path, options: dict[str, Any]) -> Path:
    """Cut the faces out of all images of a root into a folder, unless that is done already."""
    command = [sys.executable, "-m", "facenet_ext.cli", "align", str(root), "--output", str(folder)]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    subprocess.run(command, cwd=ROOT, check=True)
    shutil.copy(root / "pairs_train.txt", folder)
    return folder


def split(root: Path, folder: Path) -> Path:
    """Link the training people into a folder: those of FOLDS under val/, and write their pairs."""
    lines = (root / "pairs_train.txt").read_text().splitlines()
    per_fold = int(lines[0].split()[1])
    folds = [lines[1 + 2 * per_fold * fold :][: 2 * per_fold] for fold in FOLDS]
    pairs = [line for fold in folds for line in fold]
    fields = [line.split("\t") for line in pairs]
    held_out = {row[0] for row in fields} | {row[2] for row in fields if len(row) == 4}
    shutil.rmtree(folder, ignore_errors=True)
    for part in ("train", "val"):
        (folder / part).mkdir(parents=True)
    for person in sorted((root.resolve() / "train").iterdir()):
        part = "val" if person.name in held_out else "train"
        (folder / part / person.name).symlink_to(person)
    (folder / "pairs.txt").write_text("\n".join([f"{len(folds)}\t{per_fold}", *pairs]) + "\n")
    return folder


def train(run: Run, preset: str, data: Path, threads: int) -> Outcome:
    """Train in a process of its own, which continues a stopped run, and read its report."""
    folder = SCRATCH / run.name
    clock = folder / "seconds"
    config = SCRATCH / f"{run.name}.yaml"
    SCRATCH.mkdir(parents=True, exist_ok=True)
    given = {name: value for name, value in run.options.items() if name != "align"}
    if config.is_file() and yaml.safe_load(config.read_text()) != given:
        shutil.rmtree(folder, ignore_errors=True)  # it is of an earlier plan
    config.write_text(yaml.safe_dump(given))
    if not (folder / "metrics.json").is_file():
        _train(folder, clock, config, preset, data, threads)
    metrics = json.loads((folder / "metrics.json").read_text())
    return Outcome(
        run.choice,
        run.variant,
        run.seed,
        run.options,
        accuracy=metrics["accuracy"]["mean"],
        auc=metrics["auc"],
        eer=metrics["eer"],
        val_at_far_1e2=metrics["val_far"][1]["val"],
        minutes=float(clock.read_text()) / 60,
        commit=describe(threads)["commit"],
    )


def _train(folder: Path, clock: Path, config: Path, preset: str, data: Path, threads: int) -> None:
    command = [sys.executable, "-m", "facenet_ext.train"]
    if (folder / "checkpoints" / "last.ckpt").is_file():
        command += ["--resume", str(folder)]
    else:
        shutil.rmtree(folder, ignore_errors=True)  # its run was killed before a checkpoint
        command += ["--preset", preset, "--config", str(config), "--data", str(data)]
        command += ["--output", str(folder), "--threads", str(threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    before = float(clock.read_text()) if clock.is_file() else 0.0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=told, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        output = told.read()
    if folder.is_dir():
        clock.write_text(str(before + usage.ru_utime + usage.ru_stime))
    if process.returncode:
        raise RuntimeError(f"{folder.name}: {output.strip()}")


def save(
    outcomes: list[Outcome], runs: list[Run], threads: int, jobs: int, results: Path | None = None
) -> None:
    """Write the outcomes in the plan's order, in one step."""
    from facenet_ext.common.files import write_json

    order = {(run.choice, run.variant, run.seed): place for place, run in enumerate(runs)}
    kept = [o for o in outcomes if (o.choice, o.variant, o.seed) in order]
    kept.sort(key=lambda o: order[o.choice, o.variant, o.seed])
    results = results or RESULTS
    results.parent.mkdir(exist_ok=True)
    content = {
        "machine": describe(threads) | {"jobs": jobs},
        "outcomes": [dataclasses.asdict(outcome) for outcome in kept],
    }
    write_json(results, content)


COLUMNS = ["choice", "made as", "AUC", "difference", "accuracy", "difference", "EER", "minutes"]


def rows(outcomes: list[Outcome]) -> list[list[str]]:
    """The study's table: each variant's mean over its seeds, and its difference to the start."""
    starts = {outcome.seed: outcome for outcome in outcomes if outcome.choice == BASE}
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.choice, outcome.variant), []).append(outcome)

    def with_change(group: list[Outcome], name: str) -> list[str]:
        values = [100 * getattr(outcome, name) for outcome in group]
        shown = f"{statistics.mean(values):.2f}"
        if len(values) > 1:
            shown += f" ± {statistics.stdev(values):.2f}"
        changes = [
            100 * (getattr(outcome, name) - getattr(starts[outcome.seed], name))
            for outcome in group
            if outcome.seed in starts and outcome.choice != BASE
        ]
        return [shown, f"{statistics.mean(changes):+.2f}" if changes else ""]

    lines = []
    shown_choice = None
    for (choice, variant), group in groups.items():
        lines.append(
            [
                "" if choice == shown_choice else choice,
                variant,
                *with_change(group, "auc"),
                *with_change(group, "accuracy"),
                f"{100 * statistics.mean(o.eer for o in group):.1f}",
                f"{statistics.mean(o.minutes for o in group):.1f}",
            ]
        )
        shown_choice = choice
    return lines


def main() -> None:
    """Run what is not recorded yet."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.study", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("data", type=str, help="lfw96.tar.gz, or faces laid out as it is")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--jobs", type=int, default=cores, help="runs at once")
    parser.add_argument("--plan", choices=PLANS, default=PLANS[0], help="which runs")
    parser.add_argument("--only", default="", help="runs whose choice or variant has this text")
    arguments = parser.parse_args()

    from benchmarks import pages
    from facenet_ext.data.sources import find

    console = make_console()
    chosen = PLAN.with_stem(arguments.plan)
    results = RESULTS.with_stem(arguments.plan)
    preset, runs = plan(chosen)
    root = find(arguments.data).train.parent
    if not (root / "pairs_train.txt").is_file():
        parser.error(f"{root} has no pairs_train.txt: the study verifies pairs of training people")
    data = {False: split(root, SCRATCH / "faces")}
    if cut := yaml.safe_load(chosen.read_text()).get("align"):
        aligned = align(root, SCRATCH / "aligned", cut)
        data[True] = split(aligned, SCRATCH / "aligned-faces")
    outcomes = recorded(results)
    wanted = [run for run in runs if arguments.only in f"{run.choice} {run.variant}"]
    missing = [run for run in wanted if outcome_of(run, outcomes) is None]
    threads = max(1, cores // arguments.jobs)
    console.print(f"{len(wanted) - len(missing)} of {len(wanted)} runs are recorded")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        tasks = {
            pool.submit(
                train, run, preset, data[run.options.get("align", True in data)], threads
            ): run
            for run in missing
        }
        try:
            for number, task in enumerate(as_completed(tasks), start=1):
                outcome = task.result()
                same = (outcome.choice, outcome.variant, outcome.seed)
                outcomes = [o for o in outcomes if (o.choice, o.variant, o.seed) != same]
                outcomes.append(outcome)
                save(outcomes, runs, threads, arguments.jobs, results)
                console.print(
                    f"{number}/{len(missing)} {outcome.choice} {outcome.variant}, "
                    f"seed {outcome.seed}: {outcome.accuracy:.2%}, {outcome.minutes:.1f} minutes",
                    soft_wrap=True,
                )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    pages.write(lambda line: console.print(line, style="dim"))


if __name__ == "__main__":
    main()
