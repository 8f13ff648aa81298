"""Tokenizer, prompt dataset, batching and user histories."""
