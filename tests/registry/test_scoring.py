"""A CSV file through both champions: what it may look like, what is refused, and how much memory it takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ROOT, environment
from mlflow import MlflowClient
from registry_store import make_unsealed, model_folder, rename_package, replace_in
from stores import copy_store, filling
from torch import nn
from warm_processes import PYTHON, warm_environment, warm_mlflow_run

from abalone.data.layout import FILE_COLUMNS
from abalone.data.reading import SHIPPED_FILE, read
from abalone.model.columns import FEATURES
from abalone.model.features import encode
from abalone.model.networks import build
from abalone.registry.scoring import score_table
from abalone.settings import REGISTERED_MODELS, StageSettings, UserError, load_settings, read_toml
from abalone.tracking.flavor import log_model
from abalone.tracking.runs import tracked_run


def log(model: nn.Module, config: dict) -> str:
    """Log a model and return its id."""
    with tracked_run("model"):
        return log_model(model, config, read().frame, {"task": config["task"]}, name="model")


def register(model_ids: Mapping[str, str]) -> None:
    """Make the logged model of each task its champion."""
    client = MlflowClient()
    for task, name in REGISTERED_MODELS.items():
        client.create_registered_model(name)
        version = client.create_model_version(name, f"models:/{model_ids[task]}", model_id=model_ids[task])
        client.set_registered_model_alias(name, "champion", version.version)


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, dict[str, str]]:
    """Folder of a store in which both tasks have an untrained champion, and ids of the logged models by task."""
    folder = tmp_path_factory.mktemp("champions")
    model_ids = {}
    with filling(folder, empty_database):
        for task in REGISTERED_MODELS:
            changes = {"task": task, "features": FEATURES, "hidden_sizes": (16, 16)}
            config = StageSettings.from_mapping({**read_toml("regress"), **changes}).model_config()
            torch.manual_seed(0)
            model = build(config)
            model.prepare.fit(encode(read().frame))
            model_ids[task] = log(model.eval(), config)
        register(model_ids)
    return folder, model_ids


@pytest.fixture
def champion_ids(filled, store, own_folder) -> dict[str, str]:
    """A registry in which both tasks have an untrained champion: ids of the logged models by task."""
    folder, model_ids = filled
    copy_store(folder, own_folder)
    return model_ids


@pytest.fixture
def champions(champion_ids) -> dict:
    """The same champions, loaded by MLflow."""
    return {task: mlflow.pyfunc.load_model(f"models:/{model_id}") for task, model_id in champion_ids.items()}


@pytest.fixture
def ring_champions(store) -> None:
    """Champions of the size that ``rings`` trains; random weights cost as much to score."""
    settings = load_settings("rings")
    model_ids = {}
    for task in REGISTERED_MODELS:
        config = settings.model_config(task)
        model = build(config).eval()
        model.distribution.prepare.fit(encode(read().frame))
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        model_ids[task] = log(model, config)
    register(model_ids)


def score(text: str) -> pd.DataFrame:
    """Score a file with this text."""
    Path("rows.csv").write_text(text)
    score_table("rows.csv", "scored.csv")
    return pd.read_csv("scored.csv")


FRAME = read().frame.head(7)


HEADERLESS = "".join(SHIPPED_FILE.read_text().splitlines(keepends=True)[:7])


def test_the_scores_of_both_champions_stand_beside_the_rows_as_they_were(champions):
    scored = score(FRAME.assign(id=["007", "008", "009", "010", "a,b", 'say "x"', ""]).to_csv(index=False))
    assert list(scored.columns) == [
        *FILE_COLUMNS,
        "id",
        "label",
        "probability_old",
        "rings",
        "age_years",
        "outside_training_range",
        "classifier_version",
        "regressor_version",
    ]
    pd.testing.assert_frame_equal(scored[list(FILE_COLUMNS)], FRAME, check_dtype=False)
    assert '"a,b",' in Path("scored.csv").read_text() and ",007," in Path("scored.csv").read_text()
    expected = pd.concat([model.predict(FRAME) for model in champions.values()], axis=1)
    assert list(scored["label"]) == list(expected["label"])
    for name in ("probability_old", "rings", "age_years"):
        assert scored[name].to_numpy() == pytest.approx(expected[name].to_numpy(), abs=1e-6)


def test_stdin_and_stdout_in_a_real_process(champions):
    """stdout holds the table alone, so that it can be piped on; a bad row leaves it empty."""
    command = [PYTHON, "-m", "abalone", "predict", "--input", "-", "--output"]
    env = {**warm_environment(), "PYTHONPATH": str(ROOT)}
    options = {"capture_output": True, "text": True, "env": env, "timeout": 300}
    for target in ("-", "/dev/stdout"):
        done = subprocess.run([*command, target], input=HEADERLESS, **options)
        assert done.returncode == 0, done.stderr
        assert len(pd.read_csv(StringIO(done.stdout))) == 7
        assert "7 rows scored: stdout (by the classifier version 1" in done.stderr
    bad = HEADERLESS.replace("M", "X", 1)
    done = subprocess.run([*command, "-"], input=bad, **options)
    assert done.returncode == 1 and done.stdout == "" and "line 1: Sex is 'X'" in done.stderr


def test_a_row_outside_the_training_range_is_marked_in_one_column_for_both(champions):
    scored = score(FRAME.assign(Height=[0.1, 1.14] + [0.1] * 5, Length=[0.5, 0.9] + [0.5] * 5).to_csv(index=False))
    assert scored["outside_training_range"].fillna("").tolist() == ["", "Length,Height"] + [""] * 5


def test_without_a_champion_it_says_how_to_make_one(store):
    Path("rows.csv").write_text(HEADERLESS)
    with pytest.raises(
        UserError, match=r"abalone-classifier has no version with the alias champion in sqlite:.*-e promote"
    ):
        score_table("rows.csv", "scored.csv")


def test_the_file_may_mix_forms_of_numbers(champions):
    """Whole numbers are int64 to pandas and odd ones text; MLflow would refuse both where the signature says double."""
    odd = FRAME.assign(Length="+.5", Diameter=1, Height=[".1", "1e-1", "0.10"] + ["+.1"] * 4, **{"Whole weight": 2})
    plain = FRAME.assign(Length=0.5, Diameter=1.0, Height=0.1, **{"Whole weight": 2.0})
    scored = score(odd.to_csv(index=False))
    expected = champions["regression"].predict(plain)["rings"].to_numpy()
    assert scored["rings"].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_the_answers_come_from_the_champions_own_code(champion_ids, champions):
    """Not from the classes that this process has imported, whose numbers are others."""
    folder = model_folder(champion_ids["regression"])
    package = rename_package(folder, "abalone_model_of_another_version")
    replace_in(package / "features.py", "z = \\(x", "z = 2 * (x")
    replace_in(package / "columns.py", "YEARS_BEFORE_FIRST_RING = 1.5", "YEARS_BEFORE_FIRST_RING = 2.5")
    replace_in(package / "scorer.py", "= encode\\(checked\\)", "= 1.01 * encode(checked)")
    scored = score(HEADERLESS)
    own = mlflow.pyfunc.load_model(f"models:/{champion_ids['regression']}").predict(FRAME)
    assert list(scored["rings"]) == [float(f"{rings:.9g}") for rings in own["rings"]]
    assert (scored["age_years"] - scored["rings"]).to_numpy() == pytest.approx(np.full(7, 2.5))
    todays = champions["regression"].predict(FRAME)["rings"].to_numpy()
    assert (abs(scored["rings"].to_numpy() - todays) > 1e-4).all()


def test_a_champion_that_refuses_more_than_todays_check_says_which_line(champion_ids):
    package = rename_package(model_folder(champion_ids["regression"]), "abalone_model_of_narrow_limits")
    replace_in(package / "columns.py", '"Length": 8.15', '"Length": 0.5')
    with pytest.raises(UserError, match=r"^rows.csv: line 3: Length is 0\.53, expected a number from 0 to 0\.5"):
        score(HEADERLESS)


def test_a_champion_of_an_older_version_is_named_with_the_way_out(champion_ids):
    make_unsealed(model_folder(champion_ids["regression"]))
    Path("scored.csv").write_text("from before")
    with pytest.raises(UserError) as refusal:
        score(HEADERLESS)
    assert str(refusal.value) == (
        "models:/abalone-regressor/1 cannot be loaded (ImportError: it was logged by an older version of the project, "
        "which did not seal its code); train and promote again"
    )
    assert Path("scored.csv").read_text() == "from before"


PEAKS = """
import sys
from abalone.cli.program import main
from abalone.registry.scoring import Summary
peaks = []
def add(summary, answers, add=Summary.add):
    add(summary, answers)
    kilobytes = {line.split()[0]: int(line.split()[1]) for line in open("/proc/self/status") if "kB" in line}
    peaks.append((kilobytes["VmHWM:"] - kilobytes["RssFile:"]) * 1024 / 1e6)
Summary.add = add
sys.argv[1:] = ["predict", "--input", "rows.csv", "--output", "scored.csv"]
try:
    main()
finally:
    print(peaks[len(peaks) // 4], peaks[-1])
"""
COPIES = 20
# glibc keeps what was freed, a little more or less of it each time; so it returns it at once.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "1048576", "MALLOC_TRIM_THRESHOLD_": "1048576"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_a_million_rows_through_rings_need_less_than_400_megabytes(ring_champions):
    """By the peak after 83,540 rows, and by how much it has grown since a quarter of them.

    Of this, imports are 280. Pages of the files of libraries are not counted: how many there are, the system decides.
    """
    Path("rows.csv").write_text(SHIPPED_FILE.read_text() * COPIES)
    env = {**environment(), **MALLOC, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, env=env, timeout=300)
    assert done.returncode == 0 and done.stdout.startswith(f"{4177 * COPIES} rows scored"), done.stderr
    early, late = [float(megabytes) for megabytes in done.stdout.split()[-2:]]
    growth_per_copy = (late - early) / (COPIES * 3 / 4)
    assert late + growth_per_copy * (1_000_000 / 4177 - COPIES) < 400, (early, late)
    with open("scored.csv") as scored:
        header = next(scored).rstrip("\n").split(",")
        assert {"rings_median", "rings_high", "age_high", "outside_training_range", "regressor_version"} <= set(header)
        assert sum(1 for _ in scored) == 4177 * COPIES


@pytest.mark.slow
def test_predict_by_mlflow_run(champions, own_folder):
    source, target = own_folder / "rows.csv", own_folder / "scored.csv"
    source.write_text(HEADERLESS)
    done = warm_mlflow_run("-e", "predict", "-P", f"input={source}", "-P", f"output={target}")
    assert done.returncode == 0, done.stderr
    assert f"7 rows scored: {target}" in done.stdout and len(pd.read_csv(target)) == 7
    source.write_text(HEADERLESS.replace("M", "X", 1))
    done = warm_mlflow_run("-e", "predict", "-P", f"input={source}", "-P", f"output={target}")
    assert done.returncode != 0 and "line 1: Sex is 'X'" in done.stderr and "Traceback" not in done.stderr
