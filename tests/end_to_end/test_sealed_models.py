"""A logged model answers with the code that it was logged with, whatever version of the project loads it.

Models are logged by one version of the project and loaded by a later one, a copy in which the networks, the features
and the scorer are changed so that each change alone would change predictions. Every load is in a process that has not
imported the project.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from project_copies import ALL_CHANGES, CLASSES, DERIVE, ENCODE, PREPARE, RINGS, Change, copy_project, imported_copy
from sample_models import ensemble_config, mlp_config, untrained_model
from warm_processes import PYTHON, warm_environment

from abalone.data.reading import SHIPPED_FILE, read
from abalone.model.columns import RAW_COLUMNS
from abalone.model.scorer import Scorer, save_weights
from abalone.settings import ANSWER_COLUMNS, REGISTERED_MODELS

pytestmark = pytest.mark.slow

ROWS = read().frame.loc[::40, list(RAW_COLUMNS)]

# What every process does with a model. Numbers are written with all their digits.
LOADING = """
import importlib, json, sys
import mlflow, mlflow.pyfunc, mlflow.pytorch, pandas as pd, torch

torch.set_num_threads(1)
rows = pd.read_json("rows.json", orient="split")

def by_pytorch(uri):
    model = mlflow.pytorch.load_model(uri)
    assert isinstance(model, torch.nn.Module) and not model.training
    package = type(model).__module__.rpartition(".")[0]
    x = importlib.import_module(f"{package}.features").encode(rows)
    assert x.shape == (len(rows), 10) and x.dtype == torch.float32
    model.train(); model.eval(); model.to("cpu"); model.load_state_dict(model.state_dict())
    with torch.no_grad():
        return {"package": package, "output": model(x).tolist()}

def by_pyfunc(uri):
    model = mlflow.pyfunc.load_model(uri, suppress_warnings=True)
    return {"package": model.loader_module.rpartition(".")[0], "output": model.predict(rows).to_dict(orient="list")}

FLAVORS = {"pytorch": by_pytorch, "pyfunc": by_pyfunc}
"""

# Champions of both tasks and candidates that were trained on other rows, then everything that compares or scores them.
LOG_AND_LOAD = """
from pathlib import Path
import abalone
assert Path(abalone.__file__).parent.parent == Path.cwd(), abalone.__file__
from abalone.registry.decision import decide
from abalone.registry.promotion import promote
from abalone.registry.scoring import score_table
from abalone.settings import REGISTERED_MODELS, load_settings
from abalone.stages.rings import run_rings
from abalone.stages.stage import run_stage
from abalone.tracking.runs import RunOptions

def log_stage(experiment, data):
    run_stage("encode", load_settings("encode", {"data": data, "epochs": 3}), options=RunOptions(experiment))

def log_rings(experiment, data):
    few_steps = {"data": data, "epochs": 10, "members": 2, "average": 0.8}
    run_rings(load_settings("rings", few_steps), RunOptions(experiment))

def load_champions():
    answers = {}
    for task, name in REGISTERED_MODELS.items():
        uri = f"models:/{name}@champion"
        answers[task] = {flavor: load(uri) for flavor, load in FLAVORS.items()}
    return answers

def compare_champions():
    experiment = mlflow.get_experiment_by_name("candidates").experiment_id
    return {task: decide(task, experiment).reason for task in REGISTERED_MODELS}
"""

FIRST_VERSION = """
log_stage("stage", "first.data")
log_rings("rings", "first.data")
promote(("classification",), print, experiment="stage", options=RunOptions("stage"))
promote(("regression",), print, experiment="rings", options=RunOptions("rings"))
log_rings("candidates", "second.data")
score_table("rows.csv", "scored.csv")
Path("answers.json").write_text(json.dumps({"champions": load_champions(), "reasons": compare_champions()}))
"""

# The later version loads the models of the first one, and only then logs one of its own.
LATER_VERSION = """
answers = {"champions": load_champions(), "reasons": compare_champions()}
log_stage("later", "first.data")
experiment = mlflow.get_experiment_by_name("later").experiment_id
[model] = mlflow.search_logged_models([experiment], output_format="list")
answers["uri"] = f"models:/{model.model_id}"
answers["own"] = {flavor: load(answers["uri"]) for flavor, load in FLAVORS.items()}
Path("answers.json").write_text(json.dumps(answers))
"""

WITHOUT_PROJECT = """
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"sklearn", "matplotlib", "optuna", "abalone"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
answers = {}
for flavor, uri in json.loads(sys.argv[1]):
    answers.setdefault(uri, {})[flavor] = FLAVORS[flavor](uri)
    module = sys.modules[answers[uri][flavor]["package"]]
    assert "artifacts" in module.__file__.split("/"), module.__file__
print(json.dumps(answers))
"""


class World:
    """A store, and the two versions of the project that use it."""

    def __init__(self, folder: Path, database: Path):
        shutil.copy(database, folder / "mlflow.db")
        self.env = {**warm_environment(), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
        self.env |= {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.env.pop("PYTHONPATH", None)
        self.first = copy_project(folder / "first")
        self.later = copy_project(folder / "later", ALL_CHANGES)
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        lines = SHIPPED_FILE.read_text().splitlines(keepends=True)
        for place in (self.first, self.later, self.elsewhere):
            ROWS.to_json(place / "rows.json", orient="split")
            ROWS.to_csv(place / "rows.csv", index=False)
            (place / "first.data").write_text("".join(lines[::2]))
            (place / "second.data").write_text("".join(lines[1::2]))

    def python(self, place: Path, *arguments: str, **env: str) -> str:
        """Run Python in a folder, which is where it finds the project; return what it printed."""
        done = subprocess.run(
            [PYTHON, *arguments], capture_output=True, text=True, env=self.env | env, cwd=place, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answers(self, place: Path, script: str) -> dict[str, Any]:
        """Run a script of one of the versions, and read what it wrote."""
        self.python(place, "-c", LOADING + LOG_AND_LOAD + script)
        return json.loads((place / "answers.json").read_text())

    def load_without_project(self, loads: Sequence[tuple[str, str]], **env: str) -> dict[str, Any]:
        """Load pairs of flavor and URI in this order, in a process that cannot import the project."""
        arguments = ["-I", "-c", LOADING + WITHOUT_PROJECT, json.dumps(loads)]
        return json.loads(self.python(self.elsewhere, *arguments, **env))


@pytest.fixture(scope="module")
def world(tmp_path_factory, empty_database) -> World:
    return World(tmp_path_factory.mktemp("world"), empty_database)


@pytest.fixture(scope="module")
def first(world) -> dict[str, Any]:
    """Answers of the first version about its own models."""
    return world.answers(world.first, FIRST_VERSION)


@pytest.fixture(scope="module")
def later(world, first) -> dict[str, Any]:
    """Answers of the later version about the same models, and about one of its own."""
    return world.answers(world.later, LATER_VERSION)


@pytest.mark.parametrize(
    "config, change",
    [
        (mlp_config("classification"), PREPARE),
        (mlp_config("classification"), ENCODE),
        (mlp_config("classification"), CLASSES),
        (mlp_config("regression"), RINGS),
        (ensemble_config("regression"), DERIVE),
        (ensemble_config("regression"), ENCODE),
        (ensemble_config("regression"), RINGS),
    ],
    ids=["network", "features", "scorer", "rings scorer", "ensemble network", "ensemble features", "ensemble scorer"],
)
def test_each_change_alone_would_change_every_prediction(tmp_path, config, change: Change):
    save_weights(tmp_path / "weights.pt", untrained_model(config), config, read().frame)
    before = Scorer(tmp_path / "weights.pt").predict(ROWS)
    with imported_copy(tmp_path, "changed_model", [change]) as import_module:
        after = import_module("scorer").Scorer(tmp_path / "weights.pt").predict(ROWS)
    name = ANSWER_COLUMNS[config["task"]]
    assert (np.abs(after[name] - before[name]) > 1e-6).all()


@pytest.mark.parametrize("flavor", ["pytorch", "pyfunc"])
@pytest.mark.parametrize("task", REGISTERED_MODELS)
def test_a_later_version_loads_a_champion_with_the_champions_code(first, later, task, flavor):
    assert later["champions"][task][flavor] == first["champions"][task][flavor]
    assert later["own"][flavor]["package"] != first["champions"][task][flavor]["package"]


@pytest.mark.parametrize("task", REGISTERED_MODELS)
def test_a_later_version_compares_a_candidate_with_a_champion_of_other_rows_by_the_same_numbers(first, later, task):
    assert "against the champion" in first["reasons"][task]
    assert later["reasons"][task] == first["reasons"][task]


def test_predict_of_a_later_version_writes_the_same_file(world, first):
    world.python(world.later, "-m", "abalone", "predict", "--input", "rows.csv", "--output", "scored.csv")
    assert (world.later / "scored.csv").read_bytes() == (world.first / "scored.csv").read_bytes()
    scored = pd.read_csv(world.first / "scored.csv")
    assert {"label", "probability_old", "rings", "age_years", "rings_median", "rings_low", "rings_high"} <= set(scored)
    expected = first["champions"]["classification"]["pyfunc"]["output"]["probability_old"]
    assert scored["probability_old"].tolist() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("order", [1, -1], ids=["the first loads first", "the later loads first"])
def test_two_versions_in_one_process_each_keep_their_code(world, first, later, order):
    champions = {task: f"models:/{name}@champion" for task, name in REGISTERED_MODELS.items()}
    loads = [(flavor, uri) for uri in (*champions.values(), later["uri"]) for flavor in ("pytorch", "pyfunc")]
    answers = world.load_without_project(loads[::order])
    for task, uri in champions.items():
        assert answers[uri] == first["champions"][task]
    assert answers[later["uri"]] == later["own"]
    assert answers[champions["classification"]]["pyfunc"]["output"] != later["own"]["pyfunc"]["output"]


def test_pyfunc_loads_where_unpickling_is_forbidden(world, first):
    uris = {task: f"models:/{name}@champion" for task, name in REGISTERED_MODELS.items()}
    loads = [("pyfunc", uri) for uri in uris.values()]
    answers = world.load_without_project(loads, MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false")
    for task, uri in uris.items():
        assert answers[uri]["pyfunc"] == first["champions"][task]["pyfunc"]
