"""Networks that are told the task by examples of it."""
