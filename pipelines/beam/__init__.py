"""Apache Beam: runner, DoFns and coders."""
