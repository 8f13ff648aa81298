"""What measures speed and quality, outside the tests."""
