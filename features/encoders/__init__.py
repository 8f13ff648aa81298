"""Encoders of open_clip, timm and transformers, the encoding loop, and the embedding cache."""
