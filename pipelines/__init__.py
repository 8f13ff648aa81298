"""Dumps to tables: Beam for row-parallel work, Polars for global joins; one module a stage."""
