"""SQL statements and bytes for each trial of a study: Optuna's in its storage, and MLflow's in the tracking database.

Run ``python -m benchmarks.bench_storage``: a table, then the same as JSON. Both databases are of one PostgreSQL, which
is started for it (extra ``server``). Bytes are those of the statements with their values, and of the rows that come
back, as text.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import torch
from sqlalchemy import Engine, event

from abalone.settings import SEARCHED_BY_DEFAULT, load_settings
from abalone.tracking.postgres import Postgres
from abalone.tracking.runs import tracked_run
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.search import Limits
from abalone.tuning.storage import open_study
from abalone.tuning.tune import run_study
from benchmarks.bench_requests import free_port

TRIALS = 64
DATABASES = ("optuna", "mlflow")


@dataclass
class Traffic:
    """What went to a database and came back.

    Parameters
    ----------
    statements : int
        Executed once, or for many rows at once.
    sent : int
        Bytes of the statements and their values.
    """

    statements: int = 0
    sent: int = 0


@contextmanager
def counted() -> Iterator[dict[str, Traffic]]:
    """Count the statements that SQLAlchemy executes in this process within the block, by name of the database."""
    traffic: dict[str, Traffic] = defaultdict(Traffic)

    def count(connection: Any, cursor: Any, statement: str, values: Any, context: Any, is_many: bool) -> None:
        of_database = traffic[connection.engine.url.database]
        of_database.statements += 1
        of_database.sent += len(statement) + len(str(values))

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield traffic
    finally:
        event.remove(Engine, "before_cursor_execute", count)


def measure(trials: int = TRIALS) -> dict[str, dict[str, float]]:
    """Run a study and count."""
    torch.set_num_threads(1)
    plan = Plan("encode", load_settings("encode", {"device": "cpu"}), read_space(SEARCHED_BY_DEFAULT))
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder), free_port())
        server.start(databases=DATABASES)
        try:
            os.chdir(folder)
            mlflow.set_tracking_uri(server.url("mlflow"))
            storage = server.url("optuna")
            study = open_study(plan, "s", storage)
            with tracked_run("tune", {"stage": "tune", "study": "s"}) as run_id, counted() as traffic:
                run_study(run_id, study, plan, storage, Limits(trials), say=lambda text: None)
        finally:
            os.chdir("/")
            server.stop("immediate")
    return {
        name: {"statements": round(of.statements / trials, 1), "sent": round(of.sent / trials)}
        for name, of in traffic.items()
    }


def main() -> None:
    print(json.dumps(measure()))


if __name__ == "__main__":
    main()
