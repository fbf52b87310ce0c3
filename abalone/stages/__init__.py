"""A stage of the guide, and `rings`, as a tracked run with its page.

May import everything up to `training` and `evaluation`, but not `registry` or `claims`.
"""
