"""Ranks prompts, compares models, detects leaks and writes the results."""
