"""Parses dump lines into typed rows or rejects."""
