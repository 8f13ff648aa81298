"""Preflight checks and start-up code of `.venv`; standard library only."""
