"""What may be asked of a regressor that predicts the distribution of rings: another interval, the distribution."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.pyfunc import scoring_server
from sample_models import ensemble_config, mlp_config, untrained_model

from abalone.data.reading import read
from abalone.model.columns import DISTRIBUTION_OUTPUTS, RAW_COLUMNS
from abalone.tracking.flavor import save_model
from abalone.training.ring_ensemble import threshold_targets

FRAME = read().frame[list(RAW_COLUMNS)].head(20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    """A saved ensemble that predicts rings, for every row about as often as they occur."""
    path = tmp_path_factory.mktemp("models") / "model"
    config = ensemble_config("regression")
    network = untrained_model(config)
    frequencies = threshold_targets(read().frame["Rings"].to_numpy()).mean(0)
    network.distribution.biases[-1].data.copy_(frequencies.logit(eps=1e-4))
    save_model(str(path), Model(), network, config, read().frame)
    return str(path)


@pytest.fixture(scope="module")
def model(folder) -> mlflow.pyfunc.PyFuncModel:
    return mlflow.pyfunc.load_model(folder)


def test_the_probabilities_of_all_counts_sum_to_1_and_have_the_mean_that_is_answered(model):
    answer = model.predict(FRAME, params={"distribution": True})
    shares = answer[list(DISTRIBUTION_OUTPUTS)].to_numpy()
    assert shares.shape == (20, 29) and (shares >= 0).all()
    assert shares.sum(1) == pytest.approx(1)
    assert shares @ np.arange(1, 30) == pytest.approx(answer["rings"].to_numpy())


def test_a_wider_interval_holds_more_of_the_distribution(model):
    usual = model.predict(FRAME)
    assert usual.equals(model.predict(FRAME, params={"interval": 0.8, "distribution": False}))
    wider = model.predict(FRAME, params={"interval": 0.95})
    assert list(wider) == list(usual)
    assert (wider["rings_low"] <= usual["rings_low"]).all() and (wider["rings_high"] >= usual["rings_high"]).all()
    assert ((wider["rings_high"] - wider["rings_low"]) > (usual["rings_high"] - usual["rings_low"])).any()


@pytest.mark.parametrize("interval", [0.0, 1.0, -0.5, float("nan")])
def test_an_interval_that_is_no_share_is_refused(model, interval):
    with pytest.raises(MlflowException, match="expected a share above 0 and below 1") as refusal:
        model.predict(FRAME, params={"interval": interval})
    assert refusal.value.get_http_status_code() == 400


def test_over_rest_the_parameters_stand_beside_the_rows(model):
    body = {"dataframe_split": FRAME.to_dict(orient="split"), "params": {"interval": 0.95, "distribution": True}}
    schema = model.metadata.get_input_schema()
    response = scoring_server.invocations(json.dumps(body), "application/json", model, schema)
    assert response.status == 200
    expected = model.predict(FRAME, params=body["params"])
    first = json.loads(response.response)["predictions"][0]
    assert first == pytest.approx(expected.iloc[0].to_dict())
    assert {"p_rings_1", "p_rings_29", "outside_training_range"} <= set(first)


def test_the_signature_names_the_parameters_of_such_a_model_only(folder, tmp_path):
    params = Model.load(folder).signature.params
    assert [(param.name, param.dtype.name, param.default) for param in params] == [
        ("interval", "double", 0.8),
        ("distribution", "boolean", False),
    ]
    for config in (ensemble_config("classification"), mlp_config("regression")):
        path = Path(tmp_path, config["architecture"])
        save_model(str(path), Model(), untrained_model(config), config, read().frame)
        assert Model.load(str(path)).signature.params is None
