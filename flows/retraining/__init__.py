"""The steps of a retrain and its Prefect flow."""
