"""CLIP and other encoders, the encoding loop, and the embedding cache."""
