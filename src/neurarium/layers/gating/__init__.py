"""Gates and gains that depend on the task or the context."""
