"""Tables of the runs of an experiment, the best first, offered by MLflow's UI in its menu *Views*.

MLflow keeps a shared view as a tag of the experiment. The form is its own and not documented: should a later version
not understand it, that version shows its plain table. A test looks at both tables in a browser.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

from mlflow import MlflowClient

from abalone.settings import METRICS, MODEL_KINDS, SELECTION

TAG = "mlflow.sharedViewState."
LEADERBOARDS = {task: f"{kind}s" for task, kind in MODEL_KINDS.items()}
SHOWN_METRICS = {
    "classification": ("log_loss/val", "log_loss/test", "accuracy/test", "roc_auc/test"),
    "regression": ("rmse/val", "rmse/test", "mae/test", "r2/test"),
}
SETTINGS = ("features", "hidden_sizes", "learning_rate", "weight_decay", "dropout")


def offer_leaderboards(experiment_id: str) -> None:
    """Tag an experiment so that the UI offers a table per task, the best run first."""
    client = MlflowClient()
    now = int(time.time() * 1000)
    for task, name in LEADERBOARDS.items():
        state = base64.b64encode(zlib.compress(json.dumps(_state(task)).encode())).decode()
        view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{state}"}
        client.set_experiment_tag(experiment_id, TAG + name, json.dumps(view))


def _state(task: str) -> dict[str, Any]:
    """Finished work of a task, without the trials of studies, by what selects."""
    selection = f"metrics.`{SELECTION[task]}/val`"
    columns = [f"metrics.`{name}`" for name in SHOWN_METRICS[task]] + [f"params.`{name}`" for name in SETTINGS]
    return {
        "searchFilter": f"{selection} >= 0 and tags.stage != 'trial' and attributes.status = 'FINISHED'",
        "orderByKey": selection,
        "orderByAsc": not METRICS[SELECTION[task]].greater_is_better,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": ["attributes.`Models`", *columns],
    }
