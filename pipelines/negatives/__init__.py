"""Negative sampling and candidate lists."""
