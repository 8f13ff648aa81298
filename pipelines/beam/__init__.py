"""Apache Beam: the runner of units of work, and a coder of Arrow tables."""
