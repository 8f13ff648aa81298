"""The prompt templates and their rendering."""
