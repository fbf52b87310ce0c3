"""The shipped file, and how a data file is read, checked, labelled and split.

May import `model` and `settings`.
"""
