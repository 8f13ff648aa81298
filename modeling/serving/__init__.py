"""One recommendation request: its user, catalogue and settings."""
