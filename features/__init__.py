"""The feature store: what a table means, how it is read and written, how an item looks and is named."""
