"""Tables of the runs of an experiment, the best first, offered by MLflow's UI in its menu *Views*.

MLflow keeps a shared view as a tag of the experiment. The form is its own and not documented: should a later version
not understand it, that version shows its plain table. A test looks at both tables in a browser.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

from abalone.config import KINDS
from abalone.evaluation import GREATER_IS_BETTER, SELECTION

TAG = "mlflow.sharedViewState."
NAMES = {task: f"{kind}s" for task, kind in KINDS.items()}
SHOWN = {
    "classification": ("log_loss/val", "log_loss/test", "accuracy/test", "roc_auc/test"),
    "regression": ("rmse/val", "rmse/test", "mae/test", "r2/test"),
}
SETTINGS = ("features", "hidden_sizes", "learning_rate", "weight_decay", "dropout")


def leaderboards(now: int) -> dict[str, str]:
    """Tags of an experiment that offer a table per task.

    Parameters
    ----------
    now : int
        Milliseconds since 1970, for the views' dates.
    """
    tags = {}
    for task, name in NAMES.items():
        state = base64.b64encode(zlib.compress(json.dumps(_state(task)).encode())).decode()
        view = {"name": name, "createdAt": now, "updatedAt": now, "state": f"deflate;{state}"}
        tags[TAG + name] = json.dumps(view)
    return tags


def _state(task: str) -> dict[str, Any]:
    """Finished work of a task, without the trials of studies, by what selects."""
    selection = f"metrics.`{SELECTION[task]}/val`"
    columns = [f"metrics.`{name}`" for name in SHOWN[task]] + [f"params.`{name}`" for name in SETTINGS]
    return {
        "searchFilter": f"{selection} >= 0 and tags.stage != 'trial' and attributes.status = 'FINISHED'",
        "orderByKey": selection,
        "orderByAsc": not GREATER_IS_BETTER[SELECTION[task]],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": ["attributes.`Models`", *columns],
    }
