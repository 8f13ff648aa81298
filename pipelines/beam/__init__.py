"""The only place that imports Apache Beam's runner and coders."""
