"""Child processes, the workspace lock and the run log."""
