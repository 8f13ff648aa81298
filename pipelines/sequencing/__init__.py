"""K-core, ordering, numbering and split, with two engines."""
