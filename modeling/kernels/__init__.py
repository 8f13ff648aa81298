"""Fused modules and gradients for T5."""
