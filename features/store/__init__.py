"""The feature store's Parquet tables: write, read, validate, and their manifests."""
