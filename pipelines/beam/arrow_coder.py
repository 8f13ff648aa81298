"""How Arrow tables travel between Beam workers: as IPC streams, so that a shuffle moves columns, not rows.

Enters: a `pa.Table`. Leaves: its bytes, or the table. Importing this module registers the coder, in the process that
builds a pipeline as in each of its workers, so the DoFns that take or give tables import it.
Trade-off: the schema travels with each table, about a kilobyte; tables should hold thousands of rows.
"""

import apache_beam as beam  # noqa: TID253 - only imported by Beam's own modules, behind their doors
import pyarrow as pa


class TableCoder(beam.coders.Coder):
    """An Arrow table as one IPC stream."""

    def encode(self, value: pa.Table) -> bytes:
        """The stream."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def decode(self, encoded: bytes) -> pa.Table:
        """The table, without a copy of its columns."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_all()

    def is_deterministic(self) -> bool:
        """False: a table may be cut into batches in several ways, so it cannot be a key."""
        return False


beam.coders.registry.register_coder(pa.Table, TableCoder)
