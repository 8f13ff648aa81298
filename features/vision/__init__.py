"""Photos: found, decoded, preprocessed and batched."""
