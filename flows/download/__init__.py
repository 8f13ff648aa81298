"""Dumps and photos: fetched, checked and published."""
