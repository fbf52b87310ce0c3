"""An Optuna study of a stage: plan, storage, search, pruning, results and runs.

May import every other package, but neither ``main`` nor ``cli``.
"""
