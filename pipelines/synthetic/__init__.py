"""The embedded sample: a synthetic dump with photos."""
