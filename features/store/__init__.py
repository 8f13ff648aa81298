"""Parquet tables: writing, reading, validation and manifests."""
