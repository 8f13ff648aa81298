"""Shared by every stage: command line, parameters, seeds and logs."""
