"""Dumps to tables: Beam for row-parallel work, Polars for global joins.

Stages: sample, records, sequences, explanations, candidates, prompts, data_report. Rooms, in data order:

synthetic    the synthetic sample dump and its photos
recognition  what a file holds, from its first bytes
parsing      dump lines to typed rows or rejects
sequencing   k-core, time order, numbering, split; two engines
aspects      opinion sentences and their aspect words
negatives    negative sampling and candidate lists
prompting    examples of the prompt tables, sampled and rendered
reporting    the data page and the photo page
beam         the only place that runs Apache Beam
"""
