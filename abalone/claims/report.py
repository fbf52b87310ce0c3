"""``report`` as a tracked run: train, measure, judge, and keep the report with its figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from abalone.claims.claims import Measured, measure_stages, train_stages
from abalone.claims.figures import claim_figures
from abalone.claims.pages import (
    CLAIMS_HEADER,
    DETAILS_HEADER,
    claims_table,
    details_table,
    html_page,
    report_markdown,
    run_page,
)
from abalone.claims.sentences import stage_sentences
from abalone.claims.verdicts import Finding, findings
from abalone.data.reading import Dataset, read
from abalone.data.splitting import split
from abalone.settings import StageSettings
from abalone.tracking.addresses import find_run_path, link
from abalone.tracking.drawing import draw
from abalone.tracking.markdown import markdown_table
from abalone.tracking.run_logging import DESCRIPTION_TAG, environment_tags, log_files, log_params, log_tags
from abalone.tracking.runs import RunOptions, tracked_run
from abalone.tracking.seed_findings import SEEDS_TAG_PREFIX


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
        shared = {key: getattr(first, key) for key in ("epochs", "data", "units", "target")}
        log_params(run_id, {"seeds": seeds, **shared})
        dataset = read(first.data, first.units, first.target)
        if dataset.understood:
            say(dataset.understood)
        say(f"report: training {len(stages)} stages of {first.epochs} epochs on the splits of {seeds} seeds")

        began = time.process_time()
        trained = train_stages(stages, dataset, seeds)
        trained_at = time.process_time()
        measured = measure_stages(stages, dataset, trained)
        measured_at = time.process_time()

        rows = split(dataset, 0)
        test_to_train = len(rows.test) / len(rows.train)
        found = findings(measured, test_to_train)
        table = markdown_table(CLAIMS_HEADER, claims_table(found))
        _log_report(run_id, dataset, first, found, measured)
        log_tags(run_id, _seed_tags(measured, test_to_train))
        say(
            f"{table}\n\n{len(stages)} stages, {seeds} seeds: {trained_at - began:.1f} CPU seconds of training, "
            f"{measured_at - trained_at:.1f} of scoring"
        )
    return found


def _seed_tags(measured: Measured, test_to_train: float) -> dict[str, str]:
    """A tag per stage, which the page of that stage's run quotes."""
    return {
        f"{SEEDS_TAG_PREFIX}{stage}": sentence for stage, sentence in stage_sentences(measured, test_to_train).items()
    }


def _log_report(
    run_id: str, dataset: Dataset, first: StageSettings, found: Sequence[Finding], measured: Measured
) -> None:
    """Write report, figures, table, page and tags into the run."""
    images = draw(claim_figures(found, measured))
    text = report_markdown(dataset, first, found, measured, images)
    table = pd.DataFrame(claims_table(found), columns=CLAIMS_HEADER)
    details = pd.DataFrame(details_table(found), columns=DETAILS_HEADER)
    tags = log_files(
        run_id,
        texts={"report.md": text, "report.html": html_page(text)},
        figures={},
        images=images,
        tables={"claims.json": table.join(details.drop(columns="claim")), "scores.json": _scores_table(measured)},
    )
    report_link = link("report.html", find_run_path(run_id, "artifacts/report.html"))
    tags[DESCRIPTION_TAG] = run_page(found, measured, report_link, dataset.understood)
    tags["dataset"] = dataset.sha256[:12]
    tags |= environment_tags()
    log_tags(run_id, tags)


def _scores_table(measured: Measured) -> pd.DataFrame:
    """The measures of each stage on each seed, a row for each; those of the other task stay empty."""
    by_stage = []
    for stage, values in measured.items():
        numbers = {name: of_seeds for name, of_seeds in values.items() if of_seeds.ndim == 1}
        of_stage = pd.DataFrame(numbers).rename_axis("seed").reset_index()
        of_stage.insert(0, "stage", stage)
        by_stage.append(of_stage)
    return pd.concat(by_stage, ignore_index=True)
