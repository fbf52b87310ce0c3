"""Raw rows in, named predictions out: what is understood, what is refused, and the same numbers everywhere."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import environment
from hypothesis import given, settings
from hypothesis import strategies as st

from abalone.data.reading import read
from abalone.model.columns import CLASS_LABELS, FEATURES, LIMITS, MEASUREMENTS, RAW_COLUMNS, SEXES
from abalone.model.features import encode
from abalone.model.networks import build
from abalone.model.scorer import BadRows, Scorer, check
from abalone.settings import load_settings
from abalone.tracking.flavor import log_model
from abalone.tracking.runs import run
from benchmarks.model_server import model_server

GOOD = {"Sex": "M"} | dict(zip(MEASUREMENTS, (0.455, 0.365, 0.095, 0.514, 0.2245, 0.101, 0.15)))


def network(task: str) -> torch.nn.Module:
    """A model with its standardisation in place and weights of its own; untrained does here."""
    torch.manual_seed(0)
    settings = {**vars(load_settings("regress")), "task": task, "features": FEATURES, "hidden_sizes": (16, 16)}
    model = build(settings)
    model.prepare.fit(encode(read().frame))
    return model.eval()


def scorer_of(task: str) -> Scorer:
    """As one is after loading, but from memory."""
    made = Scorer.__new__(Scorer)
    made.model, made.task = network(task), task
    return made


@pytest.fixture(params=["classification", "regression"])
def scorer(request) -> Scorer:
    return scorer_of(request.param)


def log(model: torch.nn.Module, config: dict) -> str:
    """Put a model into the store; its address."""
    with run("model"):
        return f"models:/{log_model(model, config, read().frame.head(3), {'task': config['task']})}"


@pytest.fixture
def logged(store) -> dict[str, str]:
    """Both models in the store: task to address."""
    same = {"features": list(FEATURES), "hidden_sizes": [16, 16], "dropout": 0.0, "clip": 4.0}
    return {task: log(network(task), {**same, "task": task}) for task in ("classification", "regression")}


def rows(*changes: dict) -> pd.DataFrame:
    return pd.DataFrame([{**GOOD, **change} for change in changes])


def test_the_limits_are_ten_times_the_largest_in_the_shipped_file():
    assert (10 * read().frame[list(MEASUREMENTS)].max()).round(9).to_dict() == LIMITS


def test_every_row_of_the_shipped_file_is_accepted(scorer):
    assert len(scorer.predict(read().frame)) == 4177


def test_the_answer_has_named_columns_and_the_index_of_the_rows(scorer):
    frame = read().frame.tail(5)
    answer = scorer.predict(frame)
    assert list(answer.index) == list(frame.index)
    output = scorer.model(encode(frame)).detach().double()
    if scorer.task == "regression":
        assert list(answer.columns) == ["rings", "age_years"]
        assert answer["rings"].to_numpy() == pytest.approx(output[:, 0].numpy(), abs=1e-6)
        assert (answer["age_years"] - answer["rings"]).to_numpy() == pytest.approx(1.5)
    else:
        assert list(answer.columns) == ["label", "probability_old"]
        assert answer["probability_old"].to_numpy() == pytest.approx(output.softmax(1)[:, 1].numpy(), abs=1e-6)
        assert list(answer["label"]) == [CLASS_LABELS[int(p >= 0.5)] for p in answer["probability_old"]]


def test_order_extra_columns_spelling_and_number_types_do_not_matter(scorer):
    frame = read().frame.head(50)
    expected = scorer.predict(frame)
    others = [
        frame[frame.columns[::-1]],
        frame.assign(note="x", **{"Shell weights": -1}),
        frame.rename(columns={"Shell weight": "Shell weights"}),
        frame.astype({"Sex": object}),
        frame.astype({"Sex": "category"}),
        frame.astype({"Length": "Float64", "Sex": "string"}),
        frame.astype(dict.fromkeys(MEASUREMENTS, str)),
        frame.to_dict(orient="list"),
        frame.to_dict(orient="records"),
    ]
    for other in others:
        pd.testing.assert_frame_equal(scorer.predict(other), expected)


def test_no_rows_give_no_predictions(scorer):
    assert scorer.predict(read().frame.head(0)).shape == (0, 2)


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"Sex": "X"}, "Sex is 'X', expected M, F or I"),
        ({"Sex": "m"}, "Sex is 'm', expected M, F or I"),
        ({"Sex": None}, "Sex is missing"),
        ({"Sex": ["M"]}, "Sex is ['M'], expected M, F or I"),
        ({"Length": math.nan}, "Length is missing"),
        ({"Length": None}, "Length is missing"),
        ({"Length": ""}, "Length is missing"),
        ({"Length": "long"}, "Length is 'long', expected a number from 0 to 8.15"),
        ({"Height": -0.01}, "Height is -0.01, expected a number from 0 to 11.3"),
        ({"Whole weight": 28.256}, "Whole weight is 28.256, expected a number from 0 to 28.255"),
        ({"Whole weight": math.inf}, "Whole weight is inf, expected a number"),
        ({"Length": "0_1"}, "Length is '0_1', expected a number"),
        ({"Length": "０.５"}, "Length is '０.５', expected a number"),
        ({"Length": b"0.5"}, "Length is b'0.5', expected a number"),
        ({"Diameter": True}, "Diameter is True, expected a number"),
        ({"Diameter": 10**400}, "Diameter is 1000"),
        ({"Diameter": pd.Timestamp(0)}, "Diameter is 1970-01-01"),
    ],
    ids=str,
)
def test_a_bad_field_is_refused_with_row_and_reason(scorer, change, reason):
    with pytest.raises(BadRows) as refusal:
        scorer.predict(rows({}, change))
    assert refusal.value.message.startswith(f"row 1: {reason}")
    assert refusal.value.get_http_status_code() == 400


def test_an_integer_that_python_does_not_write_is_refused():
    with pytest.raises(BadRows, match=r"^row 1: Diameter is too long to show, expected a number from 0 to 6\.5"):
        check(rows({}, {"Diameter": 10**5000}))


def test_five_problems_are_named_and_the_rest_counted():
    with pytest.raises(BadRows) as refusal:
        check(rows(*[{"Height": -1}] * 7))
    assert refusal.value.message.count("Height is -1") == 5
    assert refusal.value.message.endswith("; and 2 more")


@pytest.mark.parametrize(
    "table, reason",
    [
        (rows({}).drop(columns=["Sex", "Height"]), "missing column Sex, Height; found Length"),
        (pd.DataFrame(), "missing column Sex, Length, .*; found none"),
        (np.zeros((2, 8)), "missing column Sex"),
        (pd.concat([rows({}), rows({})[["Length"]]], axis=1), "column Length appears more than once"),
        (pd.DataFrame([[*GOOD.values(), 0]], columns=[*GOOD, ["x"]]), "not a table .*; expected columns Sex, Length"),
        ("text", "not a table"),
        (3, "not a table"),
    ],
    ids=["two missing", "nothing", "no names", "twice", "a list as a name", "text", "number"],
)
def test_a_table_without_the_columns_is_refused(table, reason):
    with pytest.raises(BadRows, match=reason):
        check(table)


strange = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([*SEXES, "-1", "1e3", "0_1", "nan", "inf", " M", "NA", b"M", [0.5], {"a": 1}, pd.NA, pd.NaT]),
    *(st.floats(0, 5), st.integers(0, 5), st.floats(0, 5).map(str)),  # fine for most measurements
)
changes = st.dictionaries(st.sampled_from(RAW_COLUMNS), strange, max_size=3)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def is_fine(name: str, value: object) -> bool:
    if name == "Sex":
        return isinstance(value, str) and value in SEXES
    is_text = isinstance(value, str) and value.isascii() and NUMBER.fullmatch(value.strip())
    return bool(is_text or type(value) in (int, float)) and 0 <= float(value) <= LIMITS[name]


def test_malformed_rows_are_refused_by_name_or_scored_never_a_crash():
    classifier, outcomes = scorer_of("classification"), Counter()

    @settings(max_examples=1000, deadline=None)
    @given(changes, st.integers(0, 2), st.sampled_from([None] * 24 + list(RAW_COLUMNS)))
    def one(change, place, dropped):
        table = rows(*(change if i == place else {} for i in range(3))).drop(columns=[dropped] if dropped else [])
        bad = [name for name in RAW_COLUMNS if not is_fine(name, {**GOOD, **change}[name])]
        outcomes["missing" if dropped else "refused" if bad else "scored"] += 1
        if not dropped and not bad:
            answer = classifier.predict(table)
            assert len(answer) == 3 and answer["probability_old"].between(0, 1).all()
            return
        with pytest.raises(BadRows) as refusal:
            classifier.predict(table)
        begins = [f"missing column {dropped}; found "] if dropped else [f"row {place}: {name} is " for name in bad]
        assert refusal.value.message.startswith(begins[0])
        assert all(begin in refusal.value.message for begin in begins)

    one()
    assert min(outcomes[outcome] for outcome in ("missing", "refused", "scored")) >= 50, outcomes


FRESH = """
import json, pathlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"sklearn", "matplotlib", "optuna"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import mlflow, pandas as pd
flavor, uri, table = sys.argv[1:]
rows = pd.read_json(table, orient="split")
if flavor == "pyfunc":
    answer = mlflow.pyfunc.load_model(uri).predict(rows)
    columns = {name: answer[name].tolist() for name in answer}
else:
    import mlflow.pytorch, torch
    model = mlflow.pytorch.load_model(uri)
    assert isinstance(model, torch.nn.Module) and not model.training
    model.train(); model.eval(); model.to("cpu"); model.load_state_dict(model.state_dict())
    from abalone.features import encode
    x = encode(rows)
    assert x.shape == (len(rows), 10) and x.dtype == torch.float32
    columns = {"output": model(x).tolist()}
import abalone
assert "artifacts" in pathlib.Path(abalone.__file__).parts, abalone.__file__
print(json.dumps(columns))
"""


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "regression"])
@pytest.mark.parametrize("flavor, is_pickle_allowed", [("pyfunc", "false"), ("pytorch", "true")])
def test_both_flavors_give_the_same_numbers_in_a_fresh_process_without_the_project(
    logged, tmp_path, task, flavor, is_pickle_allowed
):
    frame = read().frame.head(200)
    table, elsewhere = tmp_path / "rows.json", tmp_path / "elsewhere"
    frame.to_json(table, orient="split")
    elsewhere.mkdir()
    env = {**environment(), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": is_pickle_allowed}
    env.pop("PYTHONPATH", None)
    command = [sys.executable, "-I", "-c", FRESH, flavor, logged[task], str(table)]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=elsewhere, timeout=120)
    assert done.returncode == 0, done.stderr
    columns = json.loads(done.stdout)
    output = network(task)(encode(frame)).detach().double()
    if flavor == "pytorch":
        assert np.array(columns["output"]) == pytest.approx(output.numpy(), abs=1e-6)
    elif task == "regression":
        assert columns["rings"] == pytest.approx(output[:, 0].tolist(), abs=1e-6)
    else:
        assert columns["probability_old"] == pytest.approx(output.softmax(1)[:, 1].tolist(), abs=1e-6)


def test_the_signature_tells_what_comes_out_and_the_metadata_what_goes_in(logged):
    info = mlflow.models.get_model_info(logged["regression"])
    assert info.signature.outputs.input_names() == ["rings", "age_years"]
    assert [(column["name"], column["type"]) for column in info.metadata["inputs"][:2]] == [
        ("Sex", "string"),
        ("Length", "double"),
    ]
    assert set(info.flavors) == {"pytorch", "python_function"}


def post(address: str, kind: str, body: str) -> tuple[int, dict]:
    request = urllib.request.Request(address, body.encode(), {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.slow
def test_a_real_server_answers_raw_rows_and_refuses_bad_ones(logged, tmp_path):
    frame = read().frame.head(3)
    expected = mlflow.pyfunc.load_model(logged["classification"]).predict(frame).to_dict(orient="records")
    bad = frame.astype({"Length": object})
    bad.loc[1, "Length"] = "long"
    env = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"}
    with model_server(logged["classification"], tmp_path / "server.log", env, tmp_path) as address:

        def answers(table: pd.DataFrame) -> list[tuple[int, dict]]:
            split = {"dataframe_split": table.to_dict(orient="split")}
            records = {"dataframe_records": table.to_dict(orient="records")}
            forms = [("application/json", json.dumps(split)), ("application/json", json.dumps(records))]
            return [post(address, *form) for form in (*forms, ("text/csv", table.to_csv(index=False)))]

        for good in (frame, frame[frame.columns[::-1]], frame.rename(columns={"Shell weight": "Shell weights"})):
            for status, answer in answers(good):
                assert status == 200
                for got, want in zip(answer["predictions"], expected):
                    assert got == pytest.approx(want, abs=1e-6)
        refused = {
            "row 1: Length is 'long'": bad,
            "missing column Height": frame.drop(columns="Height"),
            "row 0: Sex is 'X', expected M, F or I": frame.assign(Sex="X"),
            "row 0: Length is missing": frame.assign(Length=math.nan),
            "row 0: Height is -1, expected a number from 0 to 11.3": frame.assign(Height=-1),
            "row 0: Whole weight is 100, expected a number from 0 to 28.255": frame.assign(**{"Whole weight": 100}),
        }
        for reason, table in refused.items():
            for status, answer in answers(table):
                assert status == 400 and reason in answer["message"]
                assert "stack_trace" not in answer and "Traceback" not in json.dumps(answer)
        split = {"columns": [*GOOD, ["x"]], "data": [[*GOOD.values(), 0]]}
        status, answer = post(address, "application/json", json.dumps({"dataframe_split": split}))
        assert status == 400 and "not a table" in answer["message"] and "stack_trace" not in answer
        table = rows({}, {}).to_csv(index=False)
        for unread in ("", f"{table}M,0,0,0,0,0,0,0,0\n", f'{table}"M,0,0,0,0,0,0,0\n'):  # not by MLflow's own parser
            status, answer = post(address, "text/csv", unread)
            assert status == 400 and "stack_trace" in answer


@pytest.mark.slow
def test_mlflow_models_predict_scores_a_csv_file(logged, tmp_path):
    frame = read().frame.head(3)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    mlflow_command = Path(sys.executable).with_name("mlflow")
    command = [mlflow_command, "models", "predict", "-m", logged["regression"], "--env-manager", "local"]
    command += ["-t", "csv", "-i", tmp_path / "rows.csv", "-o", tmp_path / "scored.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr
    answers = json.loads((tmp_path / "scored.json").read_text())["predictions"]
    assert [row["rings"] for row in answers] == pytest.approx(
        network("regression")(encode(frame)).detach()[:, 0].tolist(), abs=1e-6
    )
