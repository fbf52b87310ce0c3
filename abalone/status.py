"""``status``: what the tracking store holds and what to do next, without a run of its own.

It only reads: if there is no store, or no experiment of this name, it says so and creates neither.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from mlflow.entities import Experiment, Run

from abalone.metrics import METRICS
from abalone.registry.splits import expected_split, left_out_text
from abalone.registry.versions import CHAMPION, PREVIOUS, ROLLED_BACK, read_registered
from abalone.settings import MODEL_KINDS, REGISTERED_MODELS, SELECTION, STAGES, TASKS
from abalone.tracking import relocation
from abalone.tracking.addresses import full_address, run_path, runs_path
from abalone.tracking.database import store_exists
from abalone.tracking.lookup import PARENT_TAG, find_experiment, newest_run, read_run, store_name, study_runs
from abalone.tracking.markdown import format_score, markdown_table
from abalone.tracking.runs import ui_command
from abalone.tracking.views import STAGES_VIEW

TRIAL_STATES = ("complete", "pruned", "failed")
SHOWN_STUDIES = 5
MOST_COMMANDS = 2  # of what to do next

Fields = dict[str, Any]  # in the types of JSON


def read_status(experiment_name: str | None = None) -> Fields:
    """Collect the status of an experiment.

    Parameters
    ----------
    experiment_name : str, optional
        By default that of the environment, or ``abalone``.

    Returns
    -------
    dict
        ``store``, ``experiment`` (name, or null if it does not exist), ``stages`` (the latest run of each, in the
        guide's order), ``best`` and ``champions`` by task, ``studies`` (the newest first), ``report`` (the latest
        run), ``next`` (commands), ``browse`` (the address of the stages).
    """
    status: Fields = {"store": store_name(), "experiment": None, "stages": [], "best": {}, "champions": {}}
    status |= {"studies": [], "report": None, "next": [], "browse": None}
    promoted = None
    moved = False
    if store_exists():
        status["champions"] = {task: _champion(task) for task in TASKS}
        experiment = find_experiment(experiment_name)
        if experiment is not None:
            place = experiment.experiment_id
            moved = relocation.is_moved(experiment)
            status["experiment"] = experiment.name
            status["stages"] = _stages(place)
            status["best"] = {task: _best(experiment, task) for task in TASKS}
            status["studies"] = _studies(place)
            status["report"] = _newest_fields(place, "tags.stage = 'report'")
            status["browse"] = full_address(runs_path(place, STAGES_VIEW))
            promoted = _newest_fields(place, "tags.stage = 'promote' and attributes.status = 'FINISHED'")
    option = f" --experiment-name {shlex.quote(experiment_name)}" if experiment_name else ""
    commands = _next_commands(status, promoted)[:MOST_COMMANDS]
    status["next"] = [f"python -m abalone {command}{option}" for command in commands]
    if moved:
        status["next"] = [relocation.COMMAND]
    return status


def _stages(experiment_id: str) -> list[Fields]:
    """The latest run of each stage, of ``rings`` and of the winner of each task's studies, if there is one."""
    queries = {stage: f"tags.stage = '{stage}'" for stage in (*STAGES, "rings")}
    for task in TASKS:
        queries[f"tuned {MODEL_KINDS[task]}"] = f"tags.stage = 'tuned' and tags.task = '{task}'"
    stages = []
    for name, query in queries.items():
        run = newest_run(experiment_id, query)
        if run is not None:
            scores = {key: value for key, value in run.data.metrics.items() if key.startswith(("val/", "test/"))}
            stages.append({"stage": name, **_run_fields(run), "scores": scores})
    return stages


def _newest_fields(experiment_id: str, query: str) -> Fields | None:
    run = newest_run(experiment_id, query)
    return None if run is None else _run_fields(run)


def _run_fields(run: Run) -> Fields:
    return {
        "run_id": run.info.run_id,
        "name": run.info.run_name,
        "status": run.info.status,
        "started": _iso_time(run.info.start_time),
        "address": full_address(run_path(run.info.experiment_id, run.info.run_id)),
    }


def _best(experiment: Experiment, task: str) -> Fields | None:
    """The best run by validation of those that a promotion would compare, and the splits that it would leave out."""
    choice, compared = expected_split(task, experiment.experiment_id)
    if not compared:
        return None
    best = compared[0]
    return {
        **_run_fields(read_run(best.run_id)),
        "metric": SELECTION[task],
        "val": best.score,
        "test": best.test,
        "split": choice.split,
        "split_reason": choice.reason,
        "other_splits": [asdict(count) for count in choice.others],
        "left_out": left_out_text(choice, experiment.name, task),
    }


def _champion(task: str) -> Fields | None:
    """The champion of a task; ``since`` is when it was registered or when a rollback restored it.

    MLflow records no time for an alias. A rollback marks the version that loses it; undoing the rollback removes the
    mark, and then the time of registration is shown again.
    """
    registered = read_registered(task)
    champion = registered.holder(CHAMPION)
    if champion is None:
        return None
    since = _iso_time(champion.creation_timestamp)
    previous = registered.holder(PREVIOUS)
    if previous is not None and ROLLED_BACK in previous.tags:
        since = datetime.fromisoformat(previous.tags[ROLLED_BACK]).astimezone(UTC).isoformat(timespec="seconds")
    score = champion.tags.get("score")
    return {
        "model": REGISTERED_MODELS[task],
        "version": int(champion.version),
        "uri": f"models:/{REGISTERED_MODELS[task]}@{CHAMPION}",
        "since": since,
        "run_id": champion.run_id or None,
        "metric": SELECTION[task],
        "val": float(score) if score else None,
        "split": champion.tags.get("split"),
    }


def _studies(experiment_id: str) -> list[Fields]:
    """The newest studies by the last run of each: a study that is resumed has several."""
    studies: dict[str, Fields] = {}
    for run in study_runs(experiment_id):
        studies.setdefault(run.data.tags["study"], _study(run))
    return list(studies.values())[:SHOWN_STUDIES]


def _study(run: Run) -> Fields:
    """What the run of a study logged; the numbers of trials are null until it ends."""
    tags = run.data.tags
    metrics = run.data.metrics
    trials = None
    if "trials/complete" in metrics:
        trials = {state: int(metrics.get(f"trials/{state}", 0)) for state in TRIAL_STATES}
    best = {}
    for name, value in tags.items():
        if name.startswith("best."):
            best[name.removeprefix("best.")] = value
    return {
        "study": tags["study"],
        "task": tags.get("study.task"),
        "base": tags.get("study.base"),
        "storage": tags.get("storage"),
        "trials": trials,
        "best_value": metrics.get("best_value"),
        "best": best,
        **_run_fields(run),
    }


def study_of_winner(run_id: str) -> Fields:
    """What a study logged, found by the run of its winner."""
    return _study(read_run(read_run(run_id).data.tags[PARENT_TAG]))


def _iso_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _next_commands(status: Fields, promoted: Fields | None) -> list[str]:
    """Commands that would add what the experiment lacks, the most useful first."""
    done = {stage["stage"] for stage in status["stages"] if stage["status"] in ("FINISHED", "RUNNING")}
    missing = [stage for stage in (*STAGES, "rings") if stage not in done]
    if _is_empty(status):
        return ["main", "classify"]
    commands = missing[:1]
    for task, best in status["best"].items():
        if best and _awaits_promotion(best, status["champions"].get(task), promoted):
            commands.append("promote")
            break
    studied = {study["task"] for study in status["studies"]}
    for task in TASKS:
        if task not in studied:
            commands.append(f"tune --task {task}")
            break
    if status["report"] is None:
        commands.append("report")
    if not commands and all(status["champions"].values()):
        commands.append("predict --input rows.csv --output scored.csv")
    return commands


def _is_empty(status: Mapping[str, Any]) -> bool:
    """Whether nothing has been run in the experiment, and there is no champion either."""
    found = [*status["stages"], *status["studies"], *status["best"].values(), *status["champions"].values()]
    return not any(found)


def _awaits_promotion(best: Fields, champion: Fields | None, promoted: Fields | None) -> bool:
    """Whether the best run of a task began after the last promotion and is not the champion."""
    if champion and champion["run_id"] == best["run_id"]:
        return False
    return promoted is None or promoted["started"] < best["started"]


def status_text(status: Mapping[str, Any]) -> str:
    """The status as text with Markdown tables."""
    if _is_empty(status):
        parts = [f"Nothing has been run yet in {status['store']}."]
    else:
        parts = [
            f"Experiment {status['experiment'] or '(none of this name)'} in {status['store']}",
            _stage_table(status),
            _best_table(status),
            _champion_table(status),
            _study_table(status),
        ]
    if status["next"]:
        parts.append(_indented("Next:", status["next"]))
    if status["browse"]:
        lines = [line for line in (ui_command(), status["browse"]) if line]
        parts.append(_indented("Browse:", lines))
    return "\n\n".join(part for part in parts if part)


def _indented(title: str, lines: Sequence[str]) -> str:
    """A title, and lines indented below it."""
    return "\n".join([title] + [f"  {line}" for line in lines])


def _stage_table(status: Mapping[str, Any]) -> str:
    """The latest run of each stage with its test scores, and which stages have none."""
    rows = []
    for stage in status["stages"]:
        scores = [format_score(stage["scores"].get(f"test/{name}")) for name in ("accuracy", "rmse")]
        rows.append((stage["stage"], *scores, _shown_time(stage["started"]), stage["status"].lower()))
    header = ("stage", METRICS["accuracy"].label, METRICS["rmse"].label_with_unit, "started", "status")
    text = "Stages, the latest run of each, scored on test:"
    if rows:
        text += "\n\n" + markdown_table(header, rows)
    run = {stage["stage"] for stage in status["stages"]}
    missing = [stage for stage in (*STAGES, "rings") if stage not in run]
    if missing:
        text += f"\n\nNot run yet: {', '.join(missing)}."
    return text


def _best_table(status: Mapping[str, Any]) -> str:
    """The best run of each task, the split on which it is the best, and the splits that were left out."""
    rows = []
    splits = []
    for task, best in status["best"].items():
        if best:
            label = METRICS[best["metric"]].label_with_unit
            rows.append((task, best["name"], label, format_score(best["val"]), format_score(best["test"])))
            splits.append(f"{task}: on split `{best['split']}`, {best['split_reason']}. {best['left_out']}".strip())
    if not rows:
        return ""
    table = markdown_table(("task", "run", "score", "validation", "test"), rows)
    return "\n\n".join(["Best by validation, of the runs that promotion compares:", table, *splits])


def _champion_table(status: Mapping[str, Any]) -> str:
    rows = []
    for task, champion in status["champions"].items():
        if champion:
            label = METRICS[champion["metric"]].label_with_unit
            score = f"{label} {format_score(champion['val'])}"
            rows.append((champion["model"], str(champion["version"]), _shown_time(champion["since"]), score))
        else:
            rows.append((f"{MODEL_KINDS[task]}: none", "–", "–", "–"))
    return "Champions:\n\n" + markdown_table(("model", "version", "since", "validation"), rows)


def _study_table(status: Mapping[str, Any]) -> str:
    if not status["studies"]:
        return ""
    rows = []
    for study in status["studies"]:
        rows.append((
            study["study"],
            study["task"],
            _shown_trials(study["trials"]),
            format_score(study["best_value"]),
            study["status"].lower(),
        ))  # fmt: skip
    header = ("study", "task", "trials", "best", "status")
    return "Studies, the newest first:\n\n" + markdown_table(header, rows)


def _shown_trials(trials: Mapping[str, int] | None) -> str:
    """How many trials there are, and how many of them are not complete."""
    if trials is None:
        return "–"
    others = [f"{count} {state}" for state, count in trials.items() if count and state != "complete"]
    text = str(sum(trials.values()))
    if others:
        text += f" ({', '.join(others)})"
    return text


def _shown_time(text: str) -> str:
    """A time of ``read_status`` in the zone of this machine."""
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M")
