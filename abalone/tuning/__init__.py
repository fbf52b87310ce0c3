"""An Optuna study around a stage: its plan and storage, search, pruning, results and runs.

May import everything but `main` and `cli`.
"""
