"""K-core, time order, numbering and split, by two engines."""
