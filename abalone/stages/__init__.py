"""A stage of the guide as a tracked run, ``rings`` as another, and the pages of both.

May import ``model``, ``settings``, ``data``, ``tracking``, ``training`` and ``evaluation``.
"""
