"""Every stage of a deep-learning guide on the Abalone data as a tracked MLflow run.

One folder per concern, and imports in one direction; ``docs/design.md`` has the map. What is imported here is the
Python API.
"""

from abalone.api import (
    evaluate,
    load_champion,
    load_data,
    load_settings,
    predict,
    promote,
    read_status,
    report,
    rollback,
    run_main,
    run_stage,
    tune,
)

__all__ = [
    "evaluate",
    "load_champion",
    "load_data",
    "load_settings",
    "predict",
    "promote",
    "read_status",
    "report",
    "rollback",
    "run_main",
    "run_stage",
    "tune",
]
