"""Feature store: table schemas, storage, image and text features, item identifiers."""
