"""Champion models, the quality gate and drift."""
