"""Data pipeline: one module per stage; Beam for row-parallel work, Polars for global joins.

Stages: `sample`, `records`, `sequences`, `explanations`, `candidates`, `prompts`, `data_report`.
Packages, in data order:

* `synthetic`: the synthetic sample dump
* `beam`: Apache Beam: runner, DoFns and coders
* `parsing`: dump lines to typed rows or rejects
* `sequencing`: k-core, order, numbering and split; two engines
* `aspects`: opinion sentences and their aspect words
* `negatives`: negative sampling and candidate lists
* `prompting`: examples sampled and rendered
* `reporting`: the data page and the photo page
"""
