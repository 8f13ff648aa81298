"""Opinion sentences and the aspect words that they are about."""
