"""Generates the dependencies in `dvc.yaml` and derives the pipelines of profiles."""
