"""Beam coder for Arrow tables: one IPC stream per table, so that a shuffle moves columns, not rows.

Importing this module registers the coder, in the process that builds a pipeline and in each worker; modules with DoFns
that take or return tables import it.
Trade-off: the schema travels with each table (about 1 kB), so tables should hold thousands of rows.
"""

import apache_beam as beam  # noqa: TID253 - imported by modules with DoFns only
import pyarrow as pa


class TableCoder(beam.coders.Coder):
    """An Arrow table as one IPC stream."""

    def encode(self, value: pa.Table) -> bytes:
        """Serialises the table."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_table(value)
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def decode(self, encoded: bytes) -> pa.Table:
        """Deserialises the table without copying its columns."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_all()

    def is_deterministic(self) -> bool:
        """False: the same table may be split into different batches, so it cannot be a key."""
        return False


beam.coders.registry.register_coder(pa.Table, TableCoder)
