"""Downloads, verifies and publishes dumps and photos."""
