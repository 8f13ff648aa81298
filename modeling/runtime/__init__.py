"""Devices, processes, memory and random state."""
