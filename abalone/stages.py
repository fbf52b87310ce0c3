"""A stage of the guide from data to tracked model, and all of them in one go."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from abalone import plots, registry, tracking
from abalone.cards import TABLE_HEADER, markdown_table, run_card, stage_rows
from abalone.config import STAGES, TUNED, Experiment, UserError
from abalone.dataset import Split, is_old, read, split
from abalone.evaluation import baseline, predict, scores
from abalone.features import encode
from abalone.training import fit


@dataclass(frozen=True)
class Result:
    """What came out of a stage: final metrics by ``name/split``, wall seconds, run id; an error if it failed."""

    stage: str
    task: str
    seconds: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    run_id: str = ""
    error: str = ""


def run_stage(stage: str, experiment: Experiment, base: str | None = None, **run_options: Any) -> Result:
    """Train, evaluate and track one stage.

    Parameters
    ----------
    stage : str
        Name of the stage, for the lesson and the tags.
    experiment : Experiment
        Its settings.
    base : str, optional
        Of what is not a stage of the guide, but the winner of a study: the stage that it was tuned from.
    **run_options
        ``experiment_name``, ``run_name``, ``nested``, as ``tracking.run`` takes them.
    """
    began = time.perf_counter()
    tags = {"stage": stage, "task": experiment.task, "guide_section": STAGES.get(stage, TUNED).guide}
    with tracking.run(stage, tags, **run_options) as run_id:
        dataset = read(experiment.data)
        rows = split(dataset, experiment.seed)
        x, rings = encode(dataset.frame), dataset.frame["Rings"].to_numpy()
        model, history = fit(experiment, x, rings, rows)
        parts = {part: getattr(rows, part) for part in ("val", "test")}
        predicted = {part: predict(model, x[index]) for part, index in parts.items()}
        final = _final_metrics(experiment.task, rings, rows.train, parts, predicted)
        final |= {"best_epoch": history.best_epoch, "reported_epoch": history.reported_epoch}
        params, config = experiment.as_text(), _model_config(experiment)
        model_id = tracking.log_model(model, config, dataset.frame.iloc[rows.train[:3]], params)
        table_tag = tracking.log_files(
            run_id,
            texts={"experiment.toml": to_toml(experiment), "command.txt": _command(base or stage, params)},
            figures=_figures(stage, experiment, history, rings[rows.test], predicted["test"]),
            tables=_tables(dataset.frame, experiment.task, parts, predicted),
        )
        tracking.log_dataset(run_id, dataset, {"train": rows.train, "validation": rows.val, "test": rows.test})
        previous = _previous(run_id, base or _before(stage), experiment, rows)
        card = run_card(stage, experiment, final, f"models:/{model_id}", previous)
        tags = {"mlflow.note.content": card, "dataset": dataset.sha256[:12], "split": rows.fingerprint}
        tags |= table_tag | tracking.environment_tags()
        tracking.log_stage(run_id, params=params, curves=history.metrics, final=final, tags=tags, model_id=model_id)
    return Result(stage, experiment.task, time.perf_counter() - began, final, run_id)


def run_single(stage: str, experiment: Experiment, say: Callable[[str], None], **run_options: Any) -> Result:
    """Run one stage as a run of its own, and say what came out and where to look."""
    result = run_stage(stage, experiment, **run_options)
    table = markdown_table(TABLE_HEADER, stage_rows([result]))
    say(f"{table}\n\n{tracking.how_to_browse(result.run_id)}")
    return result


def run_all(experiments: Mapping[str, Experiment], say: Callable[[str], None], **run_options: Any) -> list[Result]:
    """Run every stage as a nested run of one parent, compare them there, and promote the best.

    A stage that fails is reported and the others go on; the parent then fails too.

    Parameters
    ----------
    experiments : mapping of stage to Experiment
        In the order of the guide.
    say : callable
        Takes a line of progress.
    **run_options
        ``experiment_name`` and ``run_name`` of the parent.

    Raises
    ------
    UserError
        At the end, naming the stages that failed.
    """
    with tracking.run("guide", {"stage": "main"}, **run_options) as run_id:
        results = [_try_stage(stage, experiment, say) for stage, experiment in experiments.items()]
        table = markdown_table(TABLE_HEADER, stage_rows(results))
        done = [{"stage": r.stage, "task": r.task, **r.metrics} for r in results if not r.error]
        frame = pd.DataFrame(stage_rows(results), columns=TABLE_HEADER)
        figures = {"comparison.png": plots.comparison(done)} if done else {}
        tags = tracking.log_files(run_id, texts={"stages.md": table}, figures=figures, tables={"stages.json": frame})
        tracking.log_tags(
            run_id, tags | {"mlflow.note.content": f"Every stage of the guide, scored on the test half.\n\n{table}"}
        )
        say(f"\n{table}\n")
        for task in sorted({result.task for result in results if not result.error}):
            _promote(task, say)
        say(f"\n{tracking.how_to_browse(run_id)}")
        if failed := [f"{result.stage} ({result.error})" for result in results if result.error]:
            raise UserError(f"{len(failed)} of {len(results)} stages failed: {'; '.join(failed)}")
    return results


def to_toml(experiment: Experiment) -> str:
    """The settings as a TOML file that ``config.load`` reads back."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in asdict(experiment).items())


def _try_stage(stage: str, experiment: Experiment, say: Callable[[str], None]) -> Result:
    began = time.perf_counter()
    try:
        result = run_stage(stage, experiment, nested=True)
    except Exception as error:
        result = Result(stage, experiment.task, time.perf_counter() - began, error=str(error))
    name = "accuracy" if experiment.task == "classification" else "rmse"
    outcome = f"FAILED: {result.error}" if result.error else f"{name}/test {result.metrics[f'{name}/test']:.4f}"
    say(f"{stage:<11} {outcome}  ({result.seconds:.1f} s)")
    return result


def _promote(task: str, say: Callable[[str], None]) -> None:
    """Let the best run of the experiment become champion; too weak a one is no failure of the stages."""
    try:
        registry.promote((task,), say, run_name=f"promote {task}", nested=True)
    except registry.NoCandidate as error:
        say(f"No promotion: {error}")


def _final_metrics(task: str, rings, train, parts, predicted) -> dict[str, float]:
    final = {}
    for part, index in parts.items():
        final |= {f"{name}/{part}": value for name, value in scores(task, rings[index], predicted[part]).items()}
        plain = baseline(task, rings[train], rings[index])
        final |= {f"baseline_{name}/{part}": value for name, value in plain.items()}
    return final


def _figures(stage: str, experiment: Experiment, history, rings, predicted) -> dict[str, Any]:
    figures = {"curves.png": plots.training_curves(history.metrics, history.best_epoch, stage)}
    if experiment.task == "classification":
        old = is_old(rings)
        figures["roc.png"] = plots.roc_curve(old, predicted, stage)
        figures["confusion.png"] = plots.confusion_matrix(old, predicted, stage)
    else:
        figures["predicted_actual.png"] = plots.predicted_actual(rings, predicted, stage)
        figures["residuals.png"] = plots.residuals(rings, predicted, stage)
    return figures


def _tables(frame: pd.DataFrame, task: str, parts, predicted) -> dict[str, pd.DataFrame]:
    name = "probability_old" if task == "classification" else "predicted_rings"
    scored = {part: frame.iloc[index].assign(**{name: predicted[part].round(9)}) for part, index in parts.items()}
    return {f"predictions/{part}.json": rows.rename_axis("row").reset_index() for part, rows in scored.items()}


def _model_config(experiment: Experiment) -> dict[str, Any]:
    keys = ("task", "features", "hidden_sizes", "dropout", "clip")
    return {k: list(v) if isinstance(v := getattr(experiment, k), tuple) else v for k in keys}


def _command(stage: str, params: Mapping[str, str]) -> str:
    options = " ".join(f"-P {key}={shlex.quote(value)}" for key, value in params.items())
    return f"mlflow run . -e {stage} {options}\n"


def _before(stage: str) -> str | None:
    place = list(STAGES).index(stage)
    return list(STAGES)[place - 1] if place else None


def _previous(run_id: str, before: str | None, experiment: Experiment, rows: Split):
    found = tracking.find_stage(run_id, before, rows.fingerprint) if before else None
    same_task = found and any(key.startswith("accuracy/") for key in found[1]) == (experiment.task == "classification")
    return found if same_task else None
