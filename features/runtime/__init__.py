"""What every stage shares: its command line, parameters, seeds and logs."""
