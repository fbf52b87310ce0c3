"""The page of a registered model, for readers who do not know the project, and how it follows the champion."""

from __future__ import annotations

from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.model.columns import (
    CLASS_LABELS,
    LIMITS,
    OLD_FROM_RINGS,
    OUTSIDE,
    RING_ENSEMBLE,
    YEARS_BEFORE_FIRST_RING,
    outputs,
)
from abalone.registry.versions import ATTEMPTS, CHAMPION, LEARNED_TAG, LIMITS_TAG, read_registered
from abalone.settings import REGISTERED_MODELS, TENSOR_OUTPUTS
from abalone.tracking.addresses import link, version_path
from abalone.tracking.markdown import escape, markdown_table

MEASURED = {
    "Length": "longest measure of the shell",
    "Diameter": "perpendicular to the length",
    "Height": "with the meat in the shell",
    "Whole weight": "the whole animal",
    "Shucked weight": "the meat",
    "Viscera weight": "the gut, after bleeding",
    "Shell weight": "the shell, dried",
}
OUTPUT_MEANINGS = {
    "label": f"{' or '.join(CLASS_LABELS)}; Old if the probability is at least 0.5",
    "probability_old": f"probability that the animal has {OLD_FROM_RINGS} rings or more, 0 to 1",
    "rings": "number of rings in the shell: the mean of what is likely, best for a small squared error",
    "age_years": f"rings + {YEARS_BEFORE_FIRST_RING}, years",
    "rings_median": "the median, a whole number, best for a small absolute error (from runs of `rings` only)",
    "rings_low": "lower end of an interval that holds the rings of 80 % of the animals (from runs of `rings` only)",
    "rings_high": "upper end of that interval (from runs of `rings` only)",
    OUTSIDE: "measurements beyond those of the rows that it was fitted on, by name, separated by commas; else empty",
}
PURPOSES = {
    "classification": f"Tells old abalone ({OLD_FROM_RINGS} rings or more) from young by sex, size and weights.",
    "regression": "Predicts an abalone's number of rings from its sex, size and weights.",
}
# MLflow gives its classifier's metrics the whole answer of a model and ignores `predictions`, hence the function.
# `evaluators` leaves out its explainer, which stops at pandas' own type of text.
EVALUATIONS = {
    "classification": """\
table["Old"] = table["Rings"] >= 10
model = mlflow.pyfunc.load_model("{uri}")
mlflow.models.evaluate(
    lambda rows: model.predict(rows)["probability_old"] >= 0.5,
    table.drop(columns="Rings"),
    targets="Old",
    model_type="classifier",
    evaluators="classifier",
)""",
    "regression": """\
mlflow.models.evaluate(
    "{uri}",
    table,
    targets="Rings",
    predictions="rings",
    model_type="regressor",
    evaluators="regressor",
)  # its mean absolute error is that of the mean; of the median: predictions="rings_median", for runs of rings""",
}
MODEL_PAGE = """\
{purpose} Use the version with the alias `champion`{now}: it was the best by validation when it was promoted, unless \
it was restored by a rollback or promoted by force; `previous` is the one before it. The page of each version has its \
scores, its source run and how far off it is by age.

**Input**: these columns, in any order; others are ignored.

{inputs}

`Sex` is text, the rest are floating-point numbers. The unit of the data file is a two-hundredth: 0.455 is 91 mm, \
0.514 is 102.8 g. Other values are refused, with the row and the reason.

**Output**:

{answers}

**Load** it with `mlflow`, `torch` and `pandas` alone, where `MLFLOW_TRACKING_URI` names this server or database. The \
model carries its own code, so it gives the same numbers everywhere:

```python
import mlflow
import pandas as pd

model = mlflow.pyfunc.load_model("{uri}")
print(model.predict(pd.read_csv("rows.csv")))  # a file with the columns above as its header
```

or as a PyTorch module, float32 `[n, 10]` (I, F, M one-hot, then the measurements, unscaled) to {tensor}:

```python
model = mlflow.pytorch.load_model("{uri}")
```

or over REST:

```
mlflow models serve -m {uri} --env-manager local --port 5001
curl http://127.0.0.1:5001/invocations -H "Content-Type: text/csv" --data-binary @rows.csv
```

**Evaluate** it on animals whose rings were counted, with the project (`mlflow run . -e evaluate -P data=aged.csv` \
says whether it still holds) or with MLflow alone:

```python
mlflow.set_experiment("abalone")
table = pd.read_csv("aged.csv")  # the columns above and Rings
{evaluation}
```

**Limits**: {learned}; not for other species, waters or units. Rings are a proxy for age, not the age itself. \
{by_age} Beyond the sizes in the data a prediction is a guess: `outside_training_range` says so. The PyTorch flavor \
is a pickle: load it only from a registry that you trust; the python_function flavor unpickles nothing.
"""


def create_model(client: MlflowClient, task: str) -> None:
    """Create the registered model of a task, unless there is one."""
    try:
        client.create_registered_model(REGISTERED_MODELS[task], description=model_page(task, None))
    except MlflowException:
        client.get_registered_model(REGISTERED_MODELS[task])  # raises if it does not exist


def describe_model(client: MlflowClient, task: str) -> None:
    """Bring the page of a registered model up to date with its champion.

    The registry is read again after writing, because another process may have changed the champion in between.
    """
    for _ in range(ATTEMPTS):
        registered = read_registered(task)
        page = model_page(task, registered.holder(CHAMPION))
        if registered.description == page:
            return
        client.update_registered_model(REGISTERED_MODELS[task], page)


def model_page(task: str, champion: Any | None) -> str:
    """Return the page of a registered model, written for readers who do not know the project.

    Parameters
    ----------
    task : str
        classification or regression.
    champion : ModelVersion or None
        Version that holds the alias, whose page the limits quote.
    """
    name = REGISTERED_MODELS[task]
    now = ""
    learned = "learned from the rows that the page of the version names"
    by_age = "Animals of more than 15 rings are rare in the data."
    if champion:
        version = link(f"version {champion.version}", version_path(name, champion.version))
        now = f", now {version}"
        if LEARNED_TAG in champion.tags:
            learned = f"learned from {escape(champion.tags[LEARNED_TAG])}"
        if LIMITS_TAG in champion.tags:
            by_age = f"The champion, {version}: {champion.tags[LIMITS_TAG]}"
    inputs = [("Sex", "", "sex", "M, F or I (infant)")]
    for column, limit in LIMITS.items():
        unit = "g / 200" if "weight" in column else "mm / 200"
        inputs.append((column, unit, MEASURED[column], f"0 to {limit}"))
    answers = [(column, OUTPUT_MEANINGS[column]) for column in outputs({"task": task, "architecture": RING_ENSEMBLE})]
    return MODEL_PAGE.format(
        purpose=PURPOSES[task],
        now=now,
        learned=learned,
        by_age=by_age,
        uri=f"models:/{name}@champion",
        inputs=markdown_table(("column", "unit", "what is measured", "accepted"), inputs),
        answers=markdown_table(("column", "meaning"), answers),
        tensor=TENSOR_OUTPUTS[task],
        evaluation=EVALUATIONS[task].format(uri=f"models:/{name}@champion"),
    )
