"""Shared views of an experiment, in the menu *Views* of MLflow's UI: tables and charts of its runs.

MLflow keeps a shared view as a tag of the experiment, in an undocumented form of its own. A later version that does
not understand it shows its plain table instead. A browser test opens every view.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from abalone.metrics import METRICS
from abalone.settings import MODEL_KINDS, SELECTION
from abalone.tracking.experiments import tag_experiment

VIEW_TAG_PREFIX = "mlflow.sharedViewState."
STAGES_VIEW = "stages"
CURVES_VIEW = "curves"
TRIALS_VIEW = "trials"
LEADERBOARDS = {task: f"{kind}s" for task, kind in MODEL_KINDS.items()}  # names of the views
SHOWN_METRICS = {
    "classification": ("val/log_loss", "test/log_loss", "test/accuracy", "test/roc_auc"),
    "regression": ("val/rmse", "test/rmse", "test/mae", "test/r2"),
}
SHOWN_SETTINGS = ("features", "hidden_sizes", "learning_rate", "weight_decay", "dropout")
TRIAL_SETTINGS = ("learning_rate", "gamma", "hidden_sizes", "weight_decay", "dropout")
# Every stage has a place in the guide; what goes beyond it has the last one.
STAGES_QUERY = "tags.guide_order LIKE '%' and attributes.status = 'FINISHED'"
MODELS_COLUMN = "attributes.`Models`"
STUDY_COLUMN = "tags.`study`"
PRUNED_COLUMN = "tags.`pruned`"
LEAST_WIDTH = 80  # pixels of a column
CHART_SECTION = "curves"
# Colours of the runs that the charts overlay; those that the UI would make of their ids may be all the same.
RUN_COLOURS = {"encode": "#D55E00", "regularize": "#009E73", "dropout": "#0072B2"}
COLOUR_TAG = "mlflow.runColor"


def offer_views(experiment_id: str, tags: Mapping[str, str] = MappingProxyType({})) -> None:
    """Add the shared views to an experiment, one call each.

    Parameters
    ----------
    experiment_id : str
        Experiment whose runs the views show.
    tags : mapping, optional
        Tags that the experiment has; a view that is among them as it would be written is left alone.
    """
    now = int(time.time() * 1000)
    for name, state in _views().items():
        packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
        view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
        known = json.loads(tags.get(VIEW_TAG_PREFIX + name, "{}"))
        if known.get("state") != view["state"]:
            tag_experiment(experiment_id, VIEW_TAG_PREFIX + name, json.dumps(view))


def _views() -> dict[str, dict[str, Any]]:
    views = {STAGES_VIEW: _stages_view(), CURVES_VIEW: _curves_view()}
    for task, name in LEADERBOARDS.items():
        views[name] = _leaderboard(task)
    views[TRIALS_VIEW] = _trials_view()
    return views


def _stages_view() -> dict[str, Any]:
    """Stages in the guide's order, with the scores of both tasks."""
    metrics = ("test/accuracy", "test/roc_auc", "test/rmse", "overfit/test_rise")
    return _table(
        search=STAGES_QUERY,
        order_by="tags.`guide_order`",
        ascending=True,
        columns=[MODELS_COLUMN, *_metric_columns(metrics), *_param_columns(SHOWN_SETTINGS)],
    )


def leaderboard_query(task: str) -> str:
    """MLflow's query for the finished runs of a task with a validation score, without the trials of studies."""
    return f"{selection_key(task)} >= 0 and tags.stage != 'trial' and attributes.status = 'FINISHED'"


def selection_key(task: str) -> str:
    """MLflow's name for the validation score that selects the models of a task."""
    return f"metrics.`val/{SELECTION[task]}`"


def _leaderboard(task: str) -> dict[str, Any]:
    """Runs of a task, sorted by the metric that selects models."""
    return _table(
        search=leaderboard_query(task),
        order_by=selection_key(task),
        ascending=not METRICS[SELECTION[task]].greater_is_better,
        columns=[MODELS_COLUMN, *_metric_columns(SHOWN_METRICS[task]), *_param_columns(SHOWN_SETTINGS)],
    )


def _trials_view() -> dict[str, Any]:
    """Trials, study by study, the latest trial first.

    Sorted by start time, the UI's default, they would be folded under the runs of their studies.
    """
    metrics = ("val/log_loss", "val/rmse", "best_epoch")
    return _table(
        search="tags.stage = 'trial'",
        order_by=STUDY_COLUMN,
        ascending=True,
        columns=[STUDY_COLUMN, PRUNED_COLUMN, *_metric_columns(metrics), *_param_columns(TRIAL_SETTINGS)],
    )


def _curves_view() -> dict[str, Any]:
    """Charts of the three stages about overfitting: the test loss alone, then all splits of a curve in one chart."""
    state = _table(
        search="tags.lesson = 'overfitting' and attributes.status = 'FINISHED'",
        order_by="tags.`guide_order`",
        ascending=True,
        columns=[MODELS_COLUMN],
    )
    charts = [
        _line_chart(["loss/test"]),
        _line_chart(["loss/train", "loss/val", "loss/test"]),
        _line_chart(["accuracy/train", "accuracy/val", "accuracy/test"]),
        _line_chart(["learning_rate"]),
    ]
    section = {
        "uuid": CHART_SECTION,
        "name": "Curves",
        "display": True,
        "isReordered": True,
        "columns": 2,
        "cardHeight": 420,
    }
    # "Reordered" keeps the UI from sorting the sections that it adds itself before this one.
    state |= {"compareRunCharts": charts, "compareRunSections": [section], "isAccordionReordered": True}
    return state


def _line_chart(metrics: Sequence[str]) -> dict[str, Any]:
    """A chart of curves; the UI makes its title of their names."""
    return {
        "type": "LINE",
        "uuid": "-".join(metrics),
        "metricSectionId": CHART_SECTION,
        "deleted": False,
        "isGenerated": False,
        "metricKey": metrics[0],
        "selectedMetricKeys": list(metrics),
        "displayName": " and ".join(metrics),
        "runsCountToCompare": 10,
        "xAxisKey": "step",
        "selectedXAxisMetricKey": "",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "lineSmoothness": 0,
        "displayPoints": False,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "range": {},
    }


def _table(search: str, order_by: str, ascending: bool, columns: Sequence[str]) -> dict[str, Any]:
    """A table with its columns in the order given (the UI sorts them by name) and wide enough for their names."""
    return {
        "searchFilter": search,
        "orderByKey": order_by,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": {column: _width(column) for column in columns},
    }


def _width(column: str) -> int:
    """Pixels of a column; models, studies and outcomes are longer than the names of their columns."""
    if column in (MODELS_COLUMN, STUDY_COLUMN, PRUNED_COLUMN):
        return 150
    name = column.split("`")[1]
    return max(LEAST_WIDTH, 26 + 7 * len(name))


def _metric_columns(names: Sequence[str]) -> list[str]:
    return [f"metrics.`{name}`" for name in names]


def _param_columns(names: Sequence[str]) -> list[str]:
    return [f"params.`{name}`" for name in names]
