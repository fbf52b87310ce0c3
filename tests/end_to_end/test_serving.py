"""MLflow's real model server and ``mlflow models predict``: raw rows are scored, bad ones refused with status 400."""

from __future__ import annotations

import json
import math
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.models import Model
from planted_code import EXECUTED, plant_bomb
from sample_models import GOOD_ROW, log_untrained_model, mlp_config, rows, untrained_model
from warm_processes import start_servers_warm, warm_environment

from abalone.data.reading import read
from abalone.model.columns import MEASUREMENTS
from abalone.model.features import encode
from abalone.tracking.flavor import save_model
from benchmarks.model_server import model_server

pytestmark = pytest.mark.slow

FRAME = read().frame.head(3)
FORMS = {
    "split": lambda table: ("application/json", json.dumps({"dataframe_split": table.to_dict(orient="split")})),
    "records": lambda table: ("application/json", json.dumps({"dataframe_records": table.to_dict(orient="records")})),
    "inputs": lambda table: ("application/json", json.dumps({"inputs": table.to_dict(orient="records")})),
    "csv": lambda table: ("text/csv", table.to_csv(index=False)),
}
Post = Callable[[str, str], tuple[int, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A saved classifier, with a bomb in its pickle."""
    config = mlp_config("classification")
    path = tmp_path_factory.mktemp("served") / "model"
    save_model(str(path), Model(), untrained_model(config), config, FRAME)
    plant_bomb(path, where=path.parent)
    return path


@pytest.fixture(scope="module")
def post(folder) -> Iterator[Post]:
    """A function that posts a body to a server of that classifier."""
    with pytest.MonkeyPatch.context() as patch:
        start_servers_warm(patch)
        log = folder.parent / "server.log"
        with model_server(str(folder), log, {"OMP_NUM_THREADS": "1"}, folder.parent) as address:
            yield partial(send, address)


def send(address: str, kind: str, body: str) -> tuple[int, Any]:
    request = urllib.request.Request(address, body.encode(), {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "table",
    [
        FRAME,
        FRAME[FRAME.columns[::-1]],
        FRAME.assign(note="x"),
        FRAME.astype(dict.fromkeys(MEASUREMENTS, str)),  # MLflow converts it by the signature
    ],
    ids=["as in the file", "other order", "extra column", "numbers as text"],
)
def test_the_server_scores_raw_rows(post, folder, form, table):
    status, answer = post(*FORMS[form](table))
    assert status == 200
    expected = mlflow.pyfunc.load_model(str(folder)).predict(FRAME).to_dict(orient="records")
    assert len(answer["predictions"]) == len(expected)
    for got, want in zip(answer["predictions"], expected):
        assert got == pytest.approx(want, abs=1e-6)


def test_the_server_unpickles_nothing(post, folder):
    assert post(*FORMS["csv"](FRAME))[0] == 200
    assert not (folder.parent / EXECUTED).exists()
    with pytest.raises(AttributeError):  # it leaves no module
        mlflow.pytorch.load_model(str(folder))
    assert (folder.parent / EXECUTED).exists(), "the bomb is no bomb"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "reason, table",
    {
        "row 0: Sex is 'X', expected M, F or I": FRAME.assign(Sex="X"),
        "row 0: Sex is missing": FRAME.assign(Sex=None),
        "row 0: Length is missing": FRAME.assign(Length=math.nan),
        "row 0: Height is -1.0, expected a number from 0 to 11.3": FRAME.assign(Height=-1),
        "row 0: Whole weight is 100.0, expected a number from 0 to 28.255": FRAME.assign(**{"Whole weight": 100}),
        # The two below are MLflow's words.
        "Model is missing inputs ['Height']": FRAME.drop(columns="Height"),
        "Model is missing inputs ['Shell weight']. Note that there were extra inputs: ['Shell weights']": (
            FRAME.drop(columns="Rings").rename(columns={"Shell weight": "Shell weights"})
        ),
    }.items(),
    ids=lambda value: "" if isinstance(value, pd.DataFrame) else value[:30],
)
def test_the_server_refuses_bad_rows_with_the_reason(post, form, reason, table):
    status, answer = post(*FORMS[form](table))
    assert status == 400 and reason in answer["message"]
    assert "stack_trace" not in answer and "Traceback" not in json.dumps(answer)


@pytest.mark.parametrize(
    "form, reason",
    [
        ("split", "Failed to convert column Length to type 'float64'"),
        ("records", "Failed to convert column Length to type 'float64'"),
        ("csv", "Ensure that the input is a valid CSV-formatted Pandas DataFrame"),
    ],
)
def test_the_server_refuses_text_in_a_column_of_numbers_in_mlflows_words(post, form, reason):
    table = FRAME.astype({"Length": object})
    table.loc[1, "Length"] = "long"
    status, answer = post(*FORMS[form](table))
    assert status == 400 and reason in answer["message"]
    assert "could not convert string to float: 'long'" in answer["message"]
    assert ("stack_trace" in answer) == (form == "csv")


GOOD_CSV = rows({}, {}).to_csv(index=False)
MANY = {f"c{number}": 1 for number in range(10_000)}


@pytest.mark.parametrize("form", FORMS)
def test_ten_thousand_columns_more_are_ignored(post, form):
    status, answer = post(*FORMS[form](pd.concat([FRAME, pd.DataFrame([MANY] * len(FRAME))], axis=1)))
    assert status == 200 and len(answer["predictions"]) == len(FRAME)


@pytest.mark.parametrize(
    "kind, body, status",
    [
        ("application/json", json.dumps({"dataframe_records": [MANY]}), 400),
        ("application/json", json.dumps({"dataframe_split": {"columns": list(FRAME), "data": [[1] * 10_000]}}), 400),
        ("application/json", "[" * 100_000, 500),  # MLflow's own
        ("text/csv", f"{GOOD_CSV}M,{'1' * 5_000_000},0,0,0,0,0,0\n", 400),
        ("text/csv", "x" * 5_000_000, 400),
    ],
    ids=["other columns", "a long row", "deep JSON", "a long field", "a long name"],
)
def test_a_huge_body_is_refused_and_the_server_goes_on(post, kind, body, status):
    assert post(kind, body)[0] == status
    assert post(*FORMS["csv"](FRAME))[0] == 200


@pytest.mark.parametrize(
    "body",
    ["", f"{GOOD_CSV}M,0,0,0,0,0,0,0,0\n", f'{GOOD_CSV}"M,0,0,0,0,0,0,0\n'],
    ids=["empty", "a field too many", "an open quote"],
)
def test_a_csv_body_that_mlflow_cannot_read_gets_its_own_answer(post, body):
    status, answer = post("text/csv", body)
    assert status == 400 and "stack_trace" in answer


@pytest.mark.parametrize(
    "columns, status, reason",
    [
        ([*GOOD_ROW, "Length"], 400, "'DataFrame' object has no attribute 'dtype'"),
        ([*GOOD_ROW, ["x"]], 500, "Internal Server Error"),
    ],
    ids=["a column twice", "a list as a name"],
)
def test_malformed_column_names_get_mlflows_own_answer(post, columns, status, reason):
    split = {"columns": columns, "data": [[*GOOD_ROW.values(), 0]]}
    got, answer = post("application/json", json.dumps({"dataframe_split": split}))
    assert got == status and reason in str(answer)
    assert "stack_trace" not in answer and "Traceback" not in str(answer)


def test_mlflow_models_predict_scores_a_csv_file(store, tmp_path):
    config = mlp_config("regression")
    uri = log_untrained_model(config)
    FRAME.to_csv(tmp_path / "rows.csv", index=False)
    command = ["mlflow", "models", "predict", "-m", uri, "--env-manager", "local"]
    command += ["-t", "csv", "-i", tmp_path / "rows.csv", "-o", tmp_path / "scored.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=warm_environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    answers = json.loads((tmp_path / "scored.json").read_text())["predictions"]
    expected = untrained_model(config)(encode(FRAME)).detach()[:, 0].tolist()
    assert [row["rings"] for row in answers] == pytest.approx(expected, abs=1e-6)
