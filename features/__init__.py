"""The feature store: what a table means, and the features of photos and titles.

Stages: images, texts, identifiers. `schema` declares every table, `errors` the tree of errors. Rooms, in data order:

runtime      what every stage shares: command line, parameters, seeds, logs
store        Parquet tables: write, read, validate, manifest
vision       photos found, decoded, preprocessed, batched
encoders     CLIP, timm, transformers; the encoding loop, the cache of embeddings
item_codes   semantic and collaborative item codes
prompts      prompt templates and their rendering
"""
