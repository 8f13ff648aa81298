"""Prefect around the graph of `dvc.yaml`: bring dumps in, retrain, promote, report.

Commands: setup, demo, new, ingest, profile, retrain, serve, trigger, champion, remote, export, graph, docs. Rooms in
data order:

installing     what `make setup` checks; the standard library only
first_look     what a folder holds, and a profile sized to it
download       dumps and photos: fetched, checked, published
pipeline       dvc.yaml kept true to the code, derived for profiles
execution      child processes, workspace lock, run log
registry       champion models, quality gate, drift
retraining     the steps of a retrain and its Prefect flow
orchestration  Prefect's settings, server and messages
scheduling     the deployments of flows.serve and their schedule
exporting      tables for RecBole, Hugging Face datasets and as CSV
docgen         generated pages of the documentation
"""
