"""Parameter classes; nothing here imports torch."""
