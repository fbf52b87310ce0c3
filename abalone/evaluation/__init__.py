"""Scores, intervals, calibration, explanations and figures, computed from predictions.

May import `model`, `settings`, `data` and `tracking`.
"""
