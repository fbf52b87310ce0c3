"""The shipped data file, and how a file is read, checked, labelled, split and turned into tensors.

May import ``model`` and ``settings``.
"""
