"""Tables to scores: tokens, batches, VIP5, training, decoding, metrics, baselines."""
