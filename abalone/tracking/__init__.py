"""Everything that is written to MLflow about a run: parameters, metrics, files, models, processes and UI views.

May import ``model`` and ``settings``.
"""
