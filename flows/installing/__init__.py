"""What `make setup` checks and installs; the standard library only."""
