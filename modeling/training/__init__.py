"""Training loop, optimizer, distillation, validation and resuming."""
