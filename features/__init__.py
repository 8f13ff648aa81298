"""Feature store: table schemas, storage, image and text features, item identifiers.

Stages: `images`, `texts`, `identifiers`. `schema`: all tables, `errors`: exceptions. Packages, in data order:

* `runtime`: command line, parameters, seeds and logs of every stage
* `store`: Parquet tables: write, read, validate, manifests
* `vision`: photos found, decoded, preprocessed and batched
* `encoders`: CLIP and other encoders, encoding loop, embedding cache
* `item_codes`: semantic and collaborative item codes
* `prompts`: prompt templates and their rendering
"""
