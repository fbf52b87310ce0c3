"""An Optuna study of a stage: plan, storage, search, pruning, results and runs.

May import every other package, but not ``main``, ``status`` or ``cli``.
"""
