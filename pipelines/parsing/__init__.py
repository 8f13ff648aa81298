"""Lines of a dump to typed rows or rejects."""
