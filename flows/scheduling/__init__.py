"""The deployments of `flows.serve` and their schedule."""
