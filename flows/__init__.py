"""Commands and Prefect flows: ingest a dump, run the pipeline of `dvc.yaml`, retrain, promote and serve.

Rooms, in data order:
    download: fetch, verify and publish dumps and photos
    pipeline: keep `dvc.yaml` true, derive pipelines of profiles
    registry: champion models, quality gate and data drift
    retraining: steps of a retrain and its Prefect flow
    scheduling: deployments and their schedule
    orchestration: Prefect's environment, server and run messages
    execution: child processes, workspace lock, run log
    installing: preflight checks and start-up of `.venv`
    docgen: documentation pages generated from the code
"""
