"""Examples of the prompt tables: sampled and rendered."""
