"""``facenet evaluate``: how well a model verifies, and a report of it."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from facenet_ext.commands.evaluation_facts import find_facts, report_folder
from facenet_ext.commands.evaluation_options import EvaluateOptions
from facenet_ext.commands.evaluation_report import make_report
from facenet_ext.commands.image_evaluation import evaluate_images
from facenet_ext.commands.results import tell_results, write_results
from facenet_ext.commands.template_evaluation import evaluate_templates
from facenet_ext.commands.trained_model import load_model
from facenet_ext.commands.warnings import Warnings
from facenet_ext.common.console import make_console
from facenet_ext.common.errors import InputError
from facenet_ext.common.files import without_nan, writing
from facenet_ext.embedding.folders import METRICS, PAIRS
from facenet_ext.evaluation.scored_pairs import write_scored
from facenet_ext.evaluation.trials import Search, Trials, read_trials


def execute(options: EvaluateOptions) -> None:
    """Do what the command line says."""
    console = make_console(stderr=True)
    if not options.far <= 1:
        raise InputError(f"--far {options.far:g}: expected a rate in (0, 1]")
    if options.group_by is not None and options.groups is None:
        raise InputError(f"--group-by {options.group_by}: goes with --groups, a .csv that has them")
    warnings = Warnings(console)
    protocol = _templates(options)
    model = load_model(options, warnings, features=protocol is not None)
    output = report_folder(options, model)
    if protocol is None:
        evaluated = evaluate_images(options, model, console, warnings)
    else:
        evaluated = evaluate_templates(options, model, protocol, console, warnings)
    if evaluated is None:
        return
    root = evaluated.images.root
    facts = find_facts(options, model, root, evaluated.identities, evaluated.embedded)
    figures = {
        "checkpoint": model.name.checkpoint,
        "network": model.name.network,
        "views": model.name.views,
        "protocol": evaluated.protocol,
        **facts._asdict(),
        "warnings": warnings.texts,
        **evaluated.figures,
    }
    figures = without_nan(figures)
    report = make_report(model.name, facts, evaluated, warnings.texts)
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        if evaluated.pairs is None:  # those of another evaluation would not belong to these figures
            (output / PAIRS).unlink(missing_ok=True)
        else:
            write_scored(output / PAIRS, evaluated.pairs, figures)
    write_results(output, report, METRICS, figures)
    shown: list[Table | str] = [*evaluated.tables, *evaluated.lines]
    tell_results(figures, shown, warnings, as_json=options.json, written=(output, METRICS))


def _templates(options: EvaluateOptions) -> Trials | Search | None:
    """Return the protocol if it compares templates, else None."""
    enrol = None if options.enrol is None else Path(options.enrol)
    of_bin = options.data is not None and options.data.endswith(".bin")  # it has its own pairs
    found = None
    if options.pairs is not None and not of_bin:
        found = read_trials(Path(options.pairs), enrol)
    if found is None and enrol is not None:
        raise InputError(f"--enrol {enrol}: goes with --pairs, a file of trials of utterances")
    return found
