"""Data pipeline: one module per stage; Beam for row-parallel work, Polars for global joins."""
