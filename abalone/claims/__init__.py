"""The guide's claims measured over many seeds, the verdicts on them, and the report.

May import ``model``, ``settings``, ``data``, ``tracking``, ``training`` and ``evaluation``.
"""
