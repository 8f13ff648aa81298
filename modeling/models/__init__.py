"""VIP5, T5, adapters, loss, initialisation and checkpoints."""
