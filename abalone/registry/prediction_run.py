"""``predict`` as a tracked run: versions, digests, counts, the scored table, a figure of the ages and a page."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from abalone.registry.answers import SAMPLED_ROWS
from abalone.registry.scoring import Request, Scored, score_table
from abalone.registry.table_files import LARGEST_COPY, STDIN, STDOUT, shown_target, skipped_file
from abalone.settings import MODEL_KINDS, REGISTERED_MODELS, as_text
from abalone.tracking.addresses import Naming, link, run_path, text_only, version_path
from abalone.tracking.file_sums import unchecked_text
from abalone.tracking.markdown import data_part, escape, markdown_table
from abalone.tracking.run_logging import DESCRIPTION_TAG, Scores, log_batch, log_files, log_input, log_params
from abalone.tracking.runs import RunOptions, experiment_id_of, tracked_run

STAGE = "predict"
FIGURE = "ages.png"
SCORED = "scored.csv"
SKIPPED = "skipped.csv"


def predict(
    source: str,
    target: str,
    request: Request,
    say: Callable[[str], None],
    *,
    options: RunOptions = RunOptions(),
    stdout: TextIO | None = None,
) -> dict[str, Any]:
    """Score a table with both champions, and keep what was done as a tracked run.

    Parameters
    ----------
    source, target, request, stdout
        As for ``score_table``.
    say : callable
        Takes the lines that sum it up.
    options : RunOptions
        Where the run is filed.

    Returns
    -------
    dict
        The summary, for programs.
    """
    with tracked_run(STAGE, {"stage": STAGE}, options) as run_id, TemporaryDirectory() as folder:
        params = {"input": source, "output": target, "units": request.units, **request.params}
        params["skip_bad"] = request.skip_bad
        log_params(run_id, {name: as_text(value) for name, value in params.items()})
        scored = score_table(source, target, request, stdout=stdout or sys.stdout, copies=Path(folder))
        copies = {path.name: path for path in Path(folder).iterdir()}
        _log(run_id, source, target, request, scored, copies)
        say("\n".join([_headline(scored, target, text_only), *_sentences(scored, target)]))
    return {
        "rows": scored.rows,
        "skipped": scored.skipped,
        "input": source,
        "output": target,
        "understood": scored.understood,
        **scored.summary.metrics(),
        "models": dict(scored.models),
        "run_id": run_id,
    }


def _log(run_id: str, source: str, target: str, request: Request, scored: Scored, copies: Mapping[str, Path]) -> None:
    """Write the input, counts, files, figure, tags and page into the run."""
    # Imported when the champions are gone again: together they need more than 500 MB.
    from abalone.evaluation.prediction_figure import predicted_ages

    name = "stdin" if source in STDIN else Path(source).name
    where = "stdin" if source in STDIN else str(Path(source).expanduser().resolve())
    log_input(run_id, name=name, digest=scored.input_sha256[:12], source=where, rows=scored.rows + scored.skipped)
    interval = float(request.params["interval"])
    title = f"{name}: {_count(len(scored.summary.sample))} of {_count(scored.rows)} rows"
    figures = {FIGURE: predicted_ages(scored.summary.sample, interval, title)}
    log_files(run_id, texts={}, figures=figures, tables={}, files=copies)
    metrics = scored.summary.metrics() | {"skipped_rows": scored.skipped}
    tags = {f"champion_{task}": uri.rpartition("/")[2] for task, uri in scored.models.items()}
    tags |= {
        "input.sha256": scored.input_sha256,
        "output.sha256": scored.output_sha256,
        "output.path": target if target in STDOUT else str(Path(target).expanduser().resolve()),
        DESCRIPTION_TAG: _page(run_id, target, scored, copies),
    }
    log_batch(run_id, final=[Scores(metrics)], tags=tags)


def _page(run_id: str, target: str, scored: Scored, copies: Mapping[str, Path]) -> str:
    def file(text: str, name: str) -> str:
        return link(text, run_path(experiment_id, run_id, f"artifacts/{name}"))

    experiment_id = experiment_id_of(run_id)
    looks = [file(f"the predicted ages with their intervals (at most {SAMPLED_ROWS} rows)", FIGURE)]
    if SCORED in copies:
        looks.append(file("the scored rows", SCORED))
    if SKIPPED in copies:
        looks.append(file("the rows that were left out", SKIPPED))
    paragraphs = [
        _headline(scored, escape(target), link),
        " ".join([escape(sentence) for sentence in _sentences(scored, target)[1:]]),
        data_part(scored.understood, "Input"),
        markdown_table(("summary", "value"), [(name, f"{value:.4g}") for name, value in scored.summary.table()]),
        f"**Look at** {', '.join(looks)}.",
    ]
    if SCORED not in copies:
        paragraphs.append(
            f"The output is larger than {LARGEST_COPY // 1_000_000} MB; the tags have its digest and path."
        )
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _headline(scored: Scored, target: str, named: Naming) -> str:
    """What was scored by which versions."""
    versions = []
    for task, uri in scored.models.items():
        model = REGISTERED_MODELS[task]
        version = uri.rpartition("/")[2]
        versions.append(f"the {MODEL_KINDS[task]} {named(f'version {version}', version_path(model, version))}")
    return f"{scored.rows} rows scored: {shown_target(target)} (by {' and '.join(versions)})"


def _sentences(scored: Scored, target: str) -> list[str]:
    """How the table was read, what was left out, what lies outside the training range, and what was not checked."""
    sentences = [scored.understood]
    if scored.skipped:
        noun = "row" if scored.skipped == 1 else "rows"
        sentences.append(f"{scored.skipped} bad {noun} left out, see {skipped_file(target)}.")
    if scored.summary.outside.rows:
        sentences.append(scored.summary.outside.sentence())
    return sentences + [unchecked_text(uri) for uri in scored.unchecked]


def _count(number: int) -> str:
    return f"{number:,}"
