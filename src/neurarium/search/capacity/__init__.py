"""How large a network has to be for a task."""
