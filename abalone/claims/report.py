"""The guide's claims, each over many seeds, splits included: differences, intervals, verdicts, figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from abalone.claims.claims import CURVED, OVERFIT_AT, Measured, measure_stages, train_stages
from abalone.claims.figures import curve_bands, seed_values
from abalone.claims.pages import CLAIMS_HEADER, claims_table, explanation, html_page, report_markdown
from abalone.claims.verdicts import Finding, findings
from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.settings import StageSettings
from abalone.tracking.markdown import markdown_table
from abalone.tracking.run_logging import environment_tags, log_files, log_params, log_tags
from abalone.tracking.runs import RunOptions, tracked_run


def _draw_figures(found: Sequence[Finding], measured: Measured) -> dict[str, Any]:
    """A figure per claim; for overfitting the band of test-loss curves over the seeds."""
    curves = {stage: measured[stage]["loss/test"] for stage in CURVED}
    drawn = {}
    for number, f in enumerate(found, 1):
        title = f"{f.claim.words}: {f.told}"  # a claim alone would read as a finding
        drawn[f"claim_{number}.png"] = (
            curve_bands(curves, "test loss (nats)", title, OVERFIT_AT)
            if f.claim.metric == "rise" and not f.claim.before
            else seed_values(f.values, f.interval, f.single, f.claim.effect, f.claim.expected, title)
        )
    return drawn


def run_report(
    stages: Mapping[str, StageSettings], seeds: int, say: Callable[[str], None], options: RunOptions = RunOptions()
) -> list[Finding]:
    """Measure the stages, judge the claims, and keep the report as a tracked run.

    Parameters
    ----------
    stages : mapping of stage to Experiment
        Their ``data`` and ``epochs`` are the first one's.
    seeds : int
        How many, from 0.
    say : callable
        Takes a line of progress.
    options : RunOptions
        Where the run is filed.
    """
    first = next(iter(stages.values()))
    with tracked_run("report", {"stage": "report"}, options) as run_id:
        log_params(run_id, {"seeds": seeds, "epochs": first.epochs, "data": first.data})
        dataset = read(first.data)
        began = time.process_time()
        trained = train_stages(stages, dataset, seeds)
        training = time.process_time() - began
        measured = measure_stages(stages, dataset, trained)
        scoring = time.process_time() - began - training
        rows = split(dataset, 0)
        found = findings(measured, len(rows.test) / len(rows.train))
        drawn, cells = _draw_figures(found, measured), markdown_table(CLAIMS_HEADER, claims_table(found))
        text, frame = (
            report_markdown(dataset, first, found, measured, drawn),
            pd.DataFrame(claims_table(found), columns=CLAIMS_HEADER),
        )
        texts = {"report.md": text, "report.html": html_page(text)}
        tags = log_files(run_id, texts=texts, figures=drawn, tables={"claims.json": frame})
        tags["mlflow.note.content"] = (
            f"{cells}\n\n{explanation(found)}\n\nThe whole report: *Artifacts*, `report.html`."
        )
        tags |= {"dataset": dataset.sha256[:12]} | environment_tags()
        log_tags(run_id, tags)
        took = f"{training:.1f} CPU seconds of training, {scoring:.1f} of scoring"
        say(f"{cells}\n\n{len(stages)} stages, {seeds} seeds: {took}")
    return found
