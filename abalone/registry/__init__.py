"""Promotion and rollback of champions, their pages, and scoring a file with them.

May import everything up to `training` and `evaluation`, but not `stages` or `claims`.
"""
