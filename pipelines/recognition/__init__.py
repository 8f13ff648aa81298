"""Recognises what a file holds from its first bytes, for messages of `records` and for `flows.new`."""
