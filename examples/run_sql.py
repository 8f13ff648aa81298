"""Runs one of the .sql files and prints the result: `.venv/bin/python examples/run_sql.py FILE.sql`.

A second argument names another dataset; the files refer to the sample by paths below `data/sample/`.
"""

import sys
from pathlib import Path

import duckdb


def found(path: Path, dataset: str = "sample") -> duckdb.DuckDBPyRelation:
    """Returns the rows of the query in `path` for `dataset`; run from the repository root."""
    query = path.read_text(encoding="utf-8").replace("data/sample/", f"data/{dataset}/")
    return duckdb.connect().sql(query)


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit("usage: .venv/bin/python examples/run_sql.py FILE.sql [DATASET]")
    found(Path(sys.argv[1]), *sys.argv[2:]).show(max_width=160, max_rows=60)
