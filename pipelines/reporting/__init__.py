"""The data page and the photo page."""
