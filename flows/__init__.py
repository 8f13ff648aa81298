"""Prefect turns the crank: bring a dump in, run the graph of `dvc.yaml`, report."""
