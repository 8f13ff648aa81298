"""`dvc.yaml`: kept true to the code, and derived from for each profile."""
