"""Closed-form collaborative filtering: EASE and spectral embeddings."""
