"""A server that goes away while the winner of a study trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from kept_runs import contents, leave_during, server_in_place_of
from mlflow import MlflowClient
from tuning_helpers import search_runs, tune

from abalone.stages import stage
from abalone.tracking.filing import file_results
from abalone.tracking.reachable import KEPT_RESULTS, ServerAway


def test_a_winner_that_was_kept_and_filed_is_not_trained_again(store, empty_database, monkeypatch):
    server = server_in_place_of(store, empty_database, monkeypatch)
    with monkeypatch.context() as this_time:
        leave_during(stage, "fit", server, this_time)
        with pytest.raises(ServerAway, match="the results of tuned encode are kept in"):
            tune(trials=2)
    server.come_back()
    file_results(Path(KEPT_RESULTS), print)
    [winner] = search_runs("tags.stage = 'tuned'")

    result, study, _ = tune(trials=2)
    assert result.run_id == winner.info.run_id and [run.info.run_id for run in search_runs("tags.stage = 'tuned'")] == [
        result.run_id
    ]
    [run] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "FINISHED" and run.data.tags["winner.run_id"] == result.run_id
    assert "error" not in run.data.tags and len(study.trials) == 2

    again, _, _ = tune(trials=2, name="another")
    tags = MlflowClient().get_run(again.run_id).data.tags
    assert tags.keys() == winner.data.tags.keys() and tags["study.trial"] == winner.data.tags["study.trial"]
    assert contents(again.run_id)["curves"] == contents(result.run_id)["curves"]
