"""Opinion sentences and their aspect words."""
