"""Every stage of a deep-learning guide on the Abalone data as a tracked MLflow run.

One folder per concern, and imports in one direction; ``docs/design.md`` has the map.
"""
