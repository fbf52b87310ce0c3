"""Leaderboards: tables of an experiment's runs, the best first, in the menu *Views* of MLflow's UI.

MLflow keeps a shared view as a tag of the experiment, in an undocumented form of its own. A later version that does
not understand it shows its plain table instead. A browser test looks at both leaderboards.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

from mlflow import MlflowClient

from abalone.settings import METRICS, MODEL_KINDS, SELECTION

VIEW_TAG_PREFIX = "mlflow.sharedViewState."
LEADERBOARDS = {task: f"{kind}s" for task, kind in MODEL_KINDS.items()}  # names of the views
SHOWN_METRICS = {
    "classification": ("log_loss/val", "log_loss/test", "accuracy/test", "roc_auc/test"),
    "regression": ("rmse/val", "rmse/test", "mae/test", "r2/test"),
}
SHOWN_SETTINGS = ("features", "hidden_sizes", "learning_rate", "weight_decay", "dropout")


def offer_leaderboards(experiment_id: str) -> None:
    """Add a leaderboard per task to an experiment, in one call each.

    Parameters
    ----------
    experiment_id : str
        Experiment whose runs the leaderboards show.
    """
    client = MlflowClient()
    now = int(time.time() * 1000)
    for task, name in LEADERBOARDS.items():
        state = base64.b64encode(zlib.compress(json.dumps(_state(task)).encode())).decode()
        view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{state}"}
        client.set_experiment_tag(experiment_id, VIEW_TAG_PREFIX + name, json.dumps(view))


def _state(task: str) -> dict[str, Any]:
    """Finished runs of a task, without the trials of studies, sorted by the metric that selects models."""
    selection = f"metrics.`{SELECTION[task]}/val`"
    columns = ["attributes.`Models`"]
    columns += [f"metrics.`{name}`" for name in SHOWN_METRICS[task]]
    columns += [f"params.`{name}`" for name in SHOWN_SETTINGS]
    return {
        "searchFilter": f"{selection} >= 0 and tags.stage != 'trial' and attributes.status = 'FINISHED'",
        "orderByKey": selection,
        "orderByAsc": not METRICS[SELECTION[task]].greater_is_better,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
    }
