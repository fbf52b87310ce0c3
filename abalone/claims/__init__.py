"""The guide's claims measured over many seeds, their verdicts, and the report.

May import everything up to `training` and `evaluation`, but not `stages` or `registry`.
"""
