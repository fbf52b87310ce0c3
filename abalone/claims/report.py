"""``report`` as a tracked run: train, measure, judge, and keep the report with its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from abalone.claims.claims import Measured, measure_stages, train_stages
from abalone.claims.figures import claim_figures
from abalone.claims.pages import CLAIMS_HEADER, claims_table, explanation, html_page, report_markdown
from abalone.claims.verdicts import Finding, findings
from abalone.data.reading import Dataset, read
from abalone.data.splitting import split
from abalone.settings import StageSettings
from abalone.tracking.markdown import markdown_table
from abalone.tracking.run_logging import environment_tags, log_files, log_params, log_tags
from abalone.tracking.runs import RunOptions, tracked_run


def run_report(
    stages: Mapping[str, StageSettings], seeds: int, say: Callable[[str], None], options: RunOptions = RunOptions()
) -> list[Finding]:
    """Measure the stages, judge the claims, and keep the report as a tracked run.

    Parameters
    ----------
    stages : mapping of stage to StageSettings
        All with the same ``data`` and ``epochs``.
    seeds : int
        Number of seeds, counted from 0.
    say : callable
        Takes a line of progress.
    options : RunOptions
        Where the run is filed.
    """
    first = next(iter(stages.values()))
    with tracked_run("report", {"stage": "report"}, options) as run_id:
        log_params(run_id, {"seeds": seeds, "epochs": first.epochs, "data": first.data})
        dataset = read(first.data)
        say(f"report: training {len(stages)} stages of {first.epochs} epochs on the splits of {seeds} seeds")

        began = time.process_time()
        trained = train_stages(stages, dataset, seeds)
        trained_at = time.process_time()
        measured = measure_stages(stages, dataset, trained)
        measured_at = time.process_time()

        rows = split(dataset, 0)
        found = findings(measured, test_to_train=len(rows.test) / len(rows.train))
        table = markdown_table(CLAIMS_HEADER, claims_table(found))
        _log_report(run_id, dataset, first, found, measured)
        say(
            f"{table}\n\n{len(stages)} stages, {seeds} seeds: {trained_at - began:.1f} CPU seconds of training, "
            f"{measured_at - trained_at:.1f} of scoring"
        )
    return found


def _log_report(
    run_id: str, dataset: Dataset, first: StageSettings, found: Sequence[Finding], measured: Measured
) -> None:
    """Write report, figures, table, page and tags into the run."""
    rows = claims_table(found)
    figures = claim_figures(found, measured)
    text = report_markdown(dataset, first, found, measured, figures)
    tags = log_files(
        run_id,
        texts={"report.md": text, "report.html": html_page(text)},
        figures=figures,
        tables={"claims.json": pd.DataFrame(rows, columns=CLAIMS_HEADER)},
    )
    tags["mlflow.note.content"] = (
        f"{markdown_table(CLAIMS_HEADER, rows)}\n\n{explanation(found)}\n\n"
        "The whole report: *Artifacts*, `report.html`."
    )
    tags["dataset"] = dataset.sha256[:12]
    tags |= environment_tags()
    log_tags(run_id, tags)
