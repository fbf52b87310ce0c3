"""A saved model: what is in its folder, what both flavors answer, and what its signature lets through."""

from __future__ import annotations

import json
import math
import pickletools
import zipfile
from decimal import Decimal
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from sample_models import ensemble_config, log_untrained_model, mlp_config, untrained_model

from abalone.data.reading import read
from abalone.model.columns import MEASUREMENTS, RAW_COLUMNS
from abalone.model.features import encode
from abalone.model.scorer import WEIGHTS, Scorer
from abalone.tracking.flavor import requirements, save_model
from abalone.tracking.sealing import sealed_module, sealed_name

CONFIGS = {
    "classifier": mlp_config("classification"),
    "regressor": mlp_config("regression"),
    "ring classifier": ensemble_config("classification"),
    "ring regressor": ensemble_config("regression"),
}
FRAME = read().frame


def save(path: Path, config: dict, model: torch.nn.Module | None = None) -> str:
    """Write a model into a folder; return the folder, which MLflow loads from."""
    if model is None:
        model = untrained_model(config)
    save_model(str(path), Model(), model, config, FRAME)
    return str(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """One saved model for each configuration."""
    root = tmp_path_factory.mktemp("models")
    return {name: save(root / name, config) for name, config in CONFIGS.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_both_flavors_compute_what_the_model_in_memory_does(folders, name):
    x = encode(FRAME)
    x[0, 3:] *= 1000  # an outlier, so that clipping matters
    with torch.no_grad():
        expected = untrained_model(CONFIGS[name])(x)
        loaded = mlflow.pytorch.load_model(folders[name])
        assert torch.equal(loaded(x), expected)
    assert not loaded.training
    predicted = mlflow.pyfunc.load_model(folders[name]).predict(FRAME[list(RAW_COLUMNS)])
    with torch.no_grad():
        output = untrained_model(CONFIGS[name])(encode(FRAME)).double()
    if CONFIGS[name]["task"] == "regression":
        assert predicted["rings"].to_numpy() == pytest.approx(output[:, 0].numpy(), abs=1e-5)
    else:
        assert predicted["probability_old"].to_numpy() == pytest.approx(output.softmax(1)[:, 1].numpy(), abs=1e-6)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_classes_of_a_saved_model_are_those_of_its_own_code(folders, name):
    loaded = mlflow.pytorch.load_model(folders[name])
    own = {type(module).__module__ for module in loaded.modules() if not type(module).__module__.startswith("torch.")}
    assert own == {f"{sealed_name()}.networks", f"{sealed_name()}.features"}
    assert mlflow.pyfunc.load_model(folders[name]).loader_module == f"{sealed_name()}.scorer"


def test_the_pickle_names_nothing_of_the_project(folders):
    for folder in folders.values():
        with zipfile.ZipFile(Path(folder, "data", "model.pth")) as archive:
            [pickled] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            content = archive.read(pickled)
        modules = {text.split()[0] for op, text, _ in pickletools.genops(content) if op.name == "GLOBAL"}
        assert {name.split(".")[0] for name in modules} <= {sealed_name(), "torch", "collections", "__builtin__"}


def test_a_saved_model_holds_its_code_and_no_caches(folders):
    for folder in folders.values():
        files = {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}
        assert files == {
            "MLmodel",
            "conda.yaml",
            "python_env.yaml",
            "requirements.txt",
            "weights.pt",
            "input_example.json",
            "serving_input_example.json",
            "data/model.pth",
            "data/pickle_module_info.txt",
            f"code/{sealed_name()}.zip",
        }


def test_a_model_in_training_mode_is_saved_in_eval_mode_and_left_as_it_is(tmp_path):
    config = {**CONFIGS["classifier"], "dropout": 0.5}
    model = untrained_model(config).train()
    folder = save(tmp_path / "model", config, model)
    assert model.training
    loaded = mlflow.pytorch.load_model(folder)
    x = encode(FRAME)
    assert not loaded.training and torch.equal(loaded(x), model.eval()(x))
    loaded.train()
    assert not torch.equal(loaded(x), model(x))


def test_weights_that_share_memory_are_saved_alone(tmp_path):
    model = untrained_model(CONFIGS["classifier"])
    everything = torch.zeros(1_000_000)  # as in training, where one buffer holds the weights of a model
    place = 0
    for parameter in model.parameters():
        view = everything[place : place + parameter.numel()].view_as(parameter)
        parameter.data = view.copy_(parameter.data)
        place += parameter.numel()
    folder = save(tmp_path / "model", CONFIGS["classifier"], model)
    assert sum(path.stat().st_size for path in Path(folder).rglob("*.p*t*")) < 100_000


def test_weights_of_another_precision_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is torch\.float64, expected torch\.float32; convert the model"):
        save(tmp_path / "model", CONFIGS["regressor"], untrained_model(CONFIGS["regressor"]).double())


def test_a_configuration_of_another_model_is_refused(tmp_path):
    model = untrained_model(CONFIGS["regressor"])
    with pytest.raises(RuntimeError, match="computes other outputs than the trained model"):
        save(tmp_path / "model", {**CONFIGS["regressor"], "clip": 0.1}, model)


def test_a_logged_model_tells_its_inputs_outputs_and_configuration(store):
    uri = log_untrained_model(CONFIGS["ring regressor"])
    info = mlflow.models.get_model_info(uri)
    inputs = [(column["name"], column["type"], column["required"]) for column in info.signature.inputs.to_dict()]
    assert inputs == [("Sex", "string", True)] + [(name, "double", True) for name in MEASUREMENTS]
    outputs = [(column["name"], column["type"]) for column in info.signature.outputs.to_dict()]
    numbers = [(name, "double") for name in ("rings", "age_years", "rings_median", "rings_low", "rings_high")]
    assert outputs == [*numbers, ("outside_training_range", "string")]
    assert set(info.flavors) == {"pytorch", "python_function"}
    assert info.flavors["python_function"]["loader_module"] == f"{sealed_name()}.scorer"
    assert info.metadata["config"] == CONFIGS["ring regressor"]
    assert info.metadata["input"] == "float32 [n, 10], raw units"
    assert info.metadata["training_rows"] == 4177
    height = info.metadata["training_range"]["Height"]
    assert (height["min"], height["50%"], height["max"]) == (0, 0.14, 1.13)
    [schema] = [json.loads(Model.load(uri).to_dict()["signature"]["inputs"])]
    assert [column["name"] for column in schema] == list(RAW_COLUMNS)


def test_the_outputs_of_a_classifier_are_a_label_a_probability_and_what_is_outside(folders):
    outputs = mlflow.models.get_model_info(folders["classifier"]).signature.outputs
    assert [(column["name"], column["type"]) for column in outputs.to_dict()] == [
        ("label", "string"),
        ("probability_old", "double"),
        ("outside_training_range", "string"),
    ]


def test_the_input_example_is_scored_as_it_is(folders):
    model = mlflow.pyfunc.load_model(folders["classifier"])
    assert list(model.input_example.columns) == list(RAW_COLUMNS)
    assert len(model.predict(model.input_example)) == 3


def test_a_model_needs_the_installed_versions_of_three_packages(folders):
    assert [pin.split("==")[0] for pin in requirements()] == ["mlflow", "torch", "pandas"]
    assert Path(folders["classifier"], "requirements.txt").read_text().splitlines() == requirements()


@pytest.fixture(scope="module")
def model(folders) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(folders["classifier"])


GOOD = FRAME[list(RAW_COLUMNS)].head(3)
WHOLE = GOOD.assign(**dict.fromkeys(MEASUREMENTS, 1.0))  # measurements that integers can hold


@pytest.mark.parametrize(
    "table, same_as",
    [
        (GOOD[GOOD.columns[::-1]], GOOD),
        (GOOD.assign(note="x", Rings=3), GOOD),
        (GOOD.astype({"Sex": object}), GOOD),
        (GOOD.astype({"Sex": "str"}), GOOD),
        (GOOD.astype({"Sex": "string"}), GOOD),
        (GOOD.astype(object), GOOD),
        (GOOD.astype(dict.fromkeys(MEASUREMENTS, "Float64")), GOOD),
        (GOOD.astype(dict.fromkeys(MEASUREMENTS, "float32")), GOOD.astype(dict.fromkeys(MEASUREMENTS, "float32"))),
        (WHOLE.astype(dict.fromkeys(MEASUREMENTS, "int64")), WHOLE),
        (WHOLE.astype({"Height": "int32", "Length": "uint8", "Diameter": "int8"}), WHOLE),
        (WHOLE.assign(Height=[Decimal(1)] * 3), WHOLE),
        (GOOD.to_dict(orient="records"), GOOD),
        (GOOD.to_dict(orient="list"), GOOD),
    ],
    ids=[
        *("other order", "extra columns", "object sex", "str sex", "string sex", "all object", "Float64", "float32"),
        *("int64 of 0 and 1", "small integers", "Decimal", "records", "lists"),
    ],
)
def test_the_signature_lets_good_rows_through(folders, model, table, same_as):
    scorer = Scorer(Path(folders["classifier"], WEIGHTS))
    pd.testing.assert_frame_equal(
        model.predict(table).reset_index(drop=True), scorer.predict(same_as).reset_index(drop=True), check_exact=True
    )


@pytest.mark.parametrize(
    "table, reason",
    [
        (GOOD.assign(Sex="X"), "row 0: Sex is 'X', expected M, F or I; row 1: Sex is 'X'"),
        (GOOD.assign(Sex=pd.Series(["M", None, "F"], dtype=object)), "row 1: Sex is missing"),
        (GOOD.assign(Sex=pd.Series(["M", None, "F"], dtype="str")), "row 1: Sex is missing"),
        (GOOD.assign(Sex=pd.Series([["M"], "M", "F"], dtype=object)), "row 0: Sex is ['M'], expected M, F or I"),
        (GOOD.assign(Height=[0.1, math.nan, 0.1]), "row 1: Height is missing"),
        (GOOD.assign(Height=pd.Series([0.1, None, 0.1], dtype=object)), "row 1: Height is missing"),
        (GOOD.assign(Height=pd.Series([0.1, pd.NA, 0.1], dtype="Float64")), "row 1: Height is missing"),
        (GOOD.assign(Height=[0.1, math.inf, 0.1]), "row 1: Height is inf, expected a number from 0 to 11.3"),
        (GOOD.assign(Height=[0.1, -0.01, 0.1]), "row 1: Height is -0.01, expected a number from 0 to 11.3"),
        (GOOD.assign(Height=np.array([1, -1, 1], dtype="int32")), "row 1: Height is -1.0, expected a number"),
        (GOOD.assign(Height=np.array([1, 99, 1], dtype="float32")), "row 1: Height is 99.0, expected a number"),
        (GOOD.assign(note="x", Height=-1.0), "row 0: Height is -1.0, expected a number"),
    ],
    ids=[
        *("unknown sex", "no sex, object", "no sex, str", "list as sex", "NaN", "None", "NA", "infinite", "negative"),
        *("int32", "float32", "extra column"),
    ],
)
def test_rows_that_the_signature_lets_through_are_refused_in_our_words(model, table, reason):
    with pytest.raises(MlflowException) as refusal:
        model.predict(table)
    assert type(refusal.value) is sealed_module("rows").BadRows
    assert refusal.value.message.startswith(reason)
    assert refusal.value.get_http_status_code() == 400


def missing(*names: str) -> str:
    return f"Model is missing inputs {list(names)}."


@pytest.mark.parametrize(
    "table, reason",
    [
        (GOOD.drop(columns="Height"), missing("Height")),
        (GOOD.drop(columns=["Height", "Sex"]), missing("Sex", "Height")),
        (
            GOOD.rename(columns={"Shell weight": "Shell weights"}),
            missing("Shell weight") + " Note that there were extra inputs: ['Shell weights'].",
        ),
        (pd.DataFrame(), missing(*RAW_COLUMNS)),
        ("text", missing(*RAW_COLUMNS) + " Note that there were extra inputs: [0]."),
        (
            GOOD.assign(Height=["0.1", "long", "0.1"]),
            "Incompatible input types for column Height. Can not safely convert str to float64.",
        ),
        (
            GOOD.assign(Height=["0.1", "0.1", "0.1"]),
            "Incompatible input types for column Height. Can not safely convert str to float64.",
        ),
        (
            GOOD.assign(Height=pd.Series([0.1, "long", 0.1], dtype=object)),
            "Failed to convert column Height from type object to DataType.double.",
        ),
        (
            GOOD.assign(Height=np.array([1, 2, 1], dtype="int64")),
            "Incompatible input types for column Height. Can not safely convert int64 to float64.",
        ),
        (
            GOOD.assign(Height=True),
            "Incompatible input types for column Height. Can not safely convert bool to float64.",
        ),
        (
            GOOD.astype({"Sex": "category"}),
            "Incompatible input types for column Sex. Can not safely convert category to <U0.",
        ),
        (GOOD.assign(Sex=1), "Incompatible input types for column Sex. Can not safely convert int64 to <U0."),
    ],
    ids=[
        *(
            "one missing",
            "two missing",
            "guide's spelling",
            "no columns",
            "text for a table",
            "text",
            "numbers as text",
        ),
        *("text among numbers", "int64", "bool", "categorical sex", "number as sex"),
    ],
)
def test_rows_that_the_signature_does_not_let_through_are_refused_by_mlflow(model, table, reason):
    with pytest.raises(MlflowException) as refusal:
        model.predict(table)
    assert refusal.value.message.startswith("Failed to enforce schema of data")
    assert refusal.value.message.endswith(f"Error: {reason}")
    assert refusal.value.get_http_status_code() == 400
