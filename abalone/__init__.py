"""Every stage of a deep-learning guide on the Abalone data as a tracked MLflow run."""
