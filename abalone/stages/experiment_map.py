"""The description of an experiment: where to click, and the stages in the guide's order.

The UI shows one and a half lines of a description until it is unfolded, so the links come first.
"""

from __future__ import annotations

from collections.abc import Mapping

from abalone.evaluation.overfitting import OVERFIT_AT, OVERFITTING_STAGES
from abalone.settings import MODEL_KINDS, REGISTERED_MODELS, RINGS, STAGES, TUNED, Stage
from abalone.tracking.addresses import link, run_path, runs_path, version_path
from abalone.tracking.known_runs import known_run
from abalone.tracking.markdown import format_score, markdown_table
from abalone.tracking.run_logging import DESCRIPTION_TAG, describe_experiment, experiment_description
from abalone.tracking.runs import experiment_id_of
from abalone.tracking.views import CURVES_VIEW, LEADERBOARDS, STAGES_VIEW, TRIALS_VIEW

MAP_HEADER = ("stage", "guide", "what it is about", "test score", f"test loss after epoch {OVERFIT_AT}")
ABOUT = (
    "Each stage of a course guide to deep learning with PyTorch, on the Abalone data, is a run: young or old, and the "
    "number of rings, from the size and weight of the shells."
)


def start_line(experiment_id: str, champions: Mapping[str, int] | None = None) -> str:
    """Links to the shared views and the champions.

    Parameters
    ----------
    experiment_id : str
    champions : mapping of task to int, optional
        Versions of the registered models that are champions.
    """
    links = [
        link("stages in the guide's order", runs_path(experiment_id, STAGES_VIEW)),
        link("curves: overfitting and its remedies", runs_path(experiment_id, CURVES_VIEW, charts=True)),
    ]
    for name in LEADERBOARDS.values():
        links.append(link(name, runs_path(experiment_id, name)))
    links.append(link("trials", runs_path(experiment_id, TRIALS_VIEW)))
    champion_links = []
    for task, version in (champions or {}).items():
        champion_links.append(link(MODEL_KINDS[task], version_path(REGISTERED_MODELS[task], version)))
    if champion_links:
        links.append(f"champions: {', '.join(champion_links)}")
    return f"**Start here**: {' · '.join(links)}"


def lesson_line(experiment_id: str, run_id: str, file: str) -> str:
    """A link to the figure that shows overfitting and its remedies."""
    address = link("The lesson in one figure", run_path(experiment_id, run_id, f"artifacts/{file}"))
    return f"{address}: training and test loss by epoch, without a remedy, with weight decay and with dropout."


def stage_map(
    experiment_id: str, run_ids: Mapping[str, str], metrics: Mapping[str, Mapping[str, float]], failed: set[str]
) -> str:
    """The stages in the guide's order, then what goes beyond it, with links to runs and their test scores.

    Parameters
    ----------
    experiment_id : str
    run_ids : mapping of name to id
        The latest runs, in the order in which those beyond the guide are shown.
    metrics : mapping of name to mapping
        Final metrics of these runs.
    failed : set of str
        Names of the stages that failed.
    """
    rows = []
    beyond = [name for name in run_ids if name not in STAGES]
    for name in (*STAGES, *beyond):
        stage = RINGS if name == "rings" else STAGES.get(name, TUNED)
        shown = name
        if run_ids.get(name):
            shown = link(name, run_path(experiment_id, run_ids[name]))
        score = "failed" if name in failed else score_text(metrics.get(name, {}))
        rise = metrics.get(name, {}).get("overfit/test_rise") if name in OVERFITTING_STAGES else None
        change = "–" if rise is None else f"{rise:+.3f}"
        rows.append((shown, _section(stage), stage.teaches, score, change))
    return markdown_table(MAP_HEADER, rows)


def _section(stage: Stage) -> str:
    """Section of the guide; a dash for what goes beyond it."""
    return stage.guide if stage in STAGES.values() else "–"


def score_text(metrics: Mapping[str, float]) -> str:
    """The main test scores of a run; a dash if there are none."""
    parts = []
    if "test/accuracy" in metrics:
        parts.append(f"accuracy {format_score(metrics['test/accuracy'])}")
    if "test/rmse" in metrics:
        parts.append(f"RMSE {format_score(metrics['test/rmse'])} rings")
    return ", ".join(parts) or "–"


def describe_new_experiment(run_id: str) -> None:
    """Describe the experiment of a run, unless it has a description, so that it does not open empty."""
    known = known_run(run_id).experiment
    if known and DESCRIPTION_TAG in known.tags:
        return
    if experiment_description(run_id):
        return
    experiment_id = experiment_id_of(run_id)
    rows = []
    for name, stage in {**STAGES, "rings": RINGS}.items():
        rows.append((name, _section(stage), stage.teaches, f"`python -m abalone {name}`"))
    table = markdown_table(("stage", "guide", "what it is about", "to run it"), rows)
    describe_experiment(run_id, f"{start_line(experiment_id)}\n\n{ABOUT}\n\n{table}")
