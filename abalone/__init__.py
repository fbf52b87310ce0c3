"""Abalone: the deep-learning guide's stages as tracked, registrable MLflow runs."""
