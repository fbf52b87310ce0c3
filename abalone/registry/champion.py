"""The champion, whatever is left of its history, and what it predicts for rows that it has not learned from.

A promotion records on the version which split its model learned from. A version whose alias was set by hand has no
such tags; then its run tells, and after ``mlflow gc`` the logged model, which survives its run and keeps the settings.
A champion that scores rows must not have learned from them: where that cannot be known, ``Incomparable`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from abalone.data.reading import FILE_COLUMNS, read
from abalone.data.splitting import split
from abalone.model.rows import BadRows
from abalone.registry.candidates import Candidate, validation_rows
from abalone.registry.loading import UnreachableModel, load_model
from abalone.registry.versions import CHAMPION, holder
from abalone.settings import ANSWER_COLUMNS, PREDICTION_COLUMNS, REGISTERED_MODELS, UserError
from abalone.tracking.file_sums import FILES_TAG
from abalone.tracking.known_runs import find_run
from abalone.tracking.lookup import data_source

SHIPPED = "uci"  # data whose content is known: its SHA-256 is checked


class Incomparable(Exception):
    """The champion cannot be scored fairly on the rows of a promotion; the message says why."""


@dataclass(frozen=True)
class Champion:
    """The version that holds the alias, and what is known about the rows that it learned from.

    Parameters
    ----------
    version : int
    run_id : str
        Run that trained it; empty if it is not known.
    split : str
        Fingerprint of its split; empty if it is not known.
    settings : mapping of str to str
        Settings of its training, such as ``data``, ``seed`` and ``refit``; empty if they are not known.
    address : str
        Where its files are; empty if that is not known.
    files : str
        The sums of its files that were recorded; empty if there are none.
    """

    version: int
    run_id: str
    split: str
    settings: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    files: str = ""


def find_champion(task: str) -> Champion | None:
    """Find the champion of a task and what its version, its run or its logged model knows about its training."""
    return describe_champion(holder(task, CHAMPION))


def describe_champion(version: Any, candidates: Sequence[Candidate] = ()) -> Champion | None:
    """Tell what a version, its run or its logged model knows about its training.

    Parameters
    ----------
    version : ModelVersion or None
        The version that holds the alias; without one there is no champion.
    candidates : sequence of Candidate
        Runs of its task that have been read already.
    """
    if version is None:
        return None
    model = None
    run_id = version.run_id
    if not run_id:  # a version that was registered by a path, or copied
        model = _model_file(f"models:/{version.name}/{version.version}")
        run_id = model.run_id if model else ""
    known = next((candidate for candidate in candidates if candidate.run_id == run_id), None)
    run = None
    if known:
        run = known.run
    elif run_id:
        run = find_run(run_id)
    known_split = version.tags.get("split", "")
    if run:
        settings = dict(run.data.params)
        with suppress(KeyError):  # a run without data
            settings["data"] = data_source(run)
        known_split = known_split or run.data.tags.get("split", "")
    else:
        model = model or _model_file(f"models:/{version.name}/{version.version}")
        settings = _logged_settings(model)
    return Champion(
        version=int(version.version),
        run_id=run_id or "",
        split=known_split or _shipped_split(settings),
        settings=settings,
        address=known.address if known and version.source == f"models:/{known.model_id}" else "",
        files=version.tags.get(FILES_TAG, ""),
    )


def _model_file(uri: str) -> Model | None:
    """The file ``MLmodel`` of a version; None if it cannot be fetched, which loading the model reports."""
    with suppress(Exception):
        return Model.load(uri)
    return None


def _logged_settings(model: Model | None) -> dict[str, str]:
    """Settings that were logged with a model, which outlive its run."""
    if model is None or not model.model_id:
        return {}
    with suppress(MlflowException):  # the logged model was deleted too
        return dict(MlflowClient().get_logged_model(model.model_id).params)
    return {}


def _shipped_split(settings: Mapping[str, str]) -> str:
    """Fingerprint of the split of a training on the shipped data; empty for other data, which may have changed."""
    if settings.get("data") != SHIPPED or "seed" not in settings:
        return ""
    return split(read(), int(settings["seed"])).fingerprint


def champion_predictions(task: str, challenger: Candidate, champion: Champion, rows: pd.DataFrame) -> np.ndarray:
    """Return the champion's predictions of the challenger's validation rows.

    If it was validated on the same split, they were logged. (If it is refitted on those rows afterwards, these are the
    only fair ones.) Otherwise, or if they are lost, it scores the rows with its own code. It is loaded in any case,
    because a champion that does not work must be replaced.

    Parameters
    ----------
    task : str
    challenger : Candidate
    champion : Champion
    rows : DataFrame [n, ...]
        As ``validation_rows`` returns them for the challenger.

    Returns
    -------
    ndarray [n]
        Probability of Old, or rings.

    Raises
    ------
    Incomparable
        If no fair predictions can be had.
    UnusableModel
        If the champion's model does not work.
    """
    named = f"version {champion.version}"
    answer = ANSWER_COLUMNS[task]
    try:
        model = load_model(f"models:/{REGISTERED_MODELS[task]}/{champion.version}", champion.files, champion.address)
        if answer not in model.columns:
            raise Incomparable(f"{named} answers with {', '.join(model.columns)}, not with {answer}")
        model.predict(rows.head())
        if champion.split == challenger.split:
            logged = _logged_predictions(task, champion, rows)
            if logged is not None:
                return logged
            _check_not_refitted(champion)
        else:
            _check_unseen(champion, rows)
        return model.predict(rows)[answer].to_numpy()
    except UnreachableModel as error:
        raise Incomparable(f"{named} {error.problem}") from error
    except BadRows as error:
        raise Incomparable(f"{named} refuses the validation rows of this split ({error.message})") from error


def _logged_predictions(task: str, champion: Champion, rows: pd.DataFrame) -> np.ndarray | None:
    """Predictions of ``rows`` that the champion's run logged; None if they are lost, or are of other rows."""
    try:
        logged = validation_rows(champion.run_id).set_index("row")
        return logged.loc[rows["row"], PREDICTION_COLUMNS[task]].to_numpy()
    except Exception:  # a lost or damaged file raises errors of any kind
        return None


def _check_not_refitted(champion: Champion) -> None:
    """Raise ``Incomparable`` if the champion was, or may have been, fitted on the validation rows of its split."""
    named = f"version {champion.version}"
    if not champion.settings:
        raise Incomparable(
            f"the validation predictions of {named} are lost with its run, and nothing says whether it was refitted on "
            "these rows"
        )
    if champion.settings.get("refit") == "true":
        raise Incomparable(
            f"{named} was refitted on these validation rows, and its predictions from before that are lost with its run"
        )


def _check_unseen(champion: Champion, rows: pd.DataFrame) -> None:
    """Raise ``Incomparable`` if any of ``rows``, by its values, trained the champion or chose its epoch."""
    named = f"version {champion.version}"
    if not champion.split or not champion.settings:
        raise Incomparable(f"neither {named} nor its run or logged model says which rows trained it")
    try:
        settings = champion.settings
        dataset = read(settings["data"], settings.get("units", "file"), settings.get("target", "auto"))
        parts = split(dataset, int(settings["seed"]))
    except (KeyError, ValueError, UserError) as error:
        raise Incomparable(f"the rows that trained {named} are not known ({error})") from error
    if parts.fingerprint != champion.split:
        raise Incomparable(f"the data that trained {named} have changed since: {dataset.path}")
    seen = dataset.frame.iloc[np.concatenate([parts.train, parts.val])]
    shared = _row_values(rows) & _row_values(seen)
    if shared:
        raise Incomparable(f"{len(shared)} of the {len(rows)} validation rows of this split trained {named}")


def _row_values(frame: pd.DataFrame) -> set[tuple]:
    return set(frame[list(FILE_COLUMNS)].round(9).itertuples(index=False, name=None))
