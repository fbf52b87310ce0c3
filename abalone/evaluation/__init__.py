"""Scores, intervals, calibration, explanations and figures, all computed from models and their predictions.

May import ``model``, ``settings``, ``data`` and ``tracking``.
"""
