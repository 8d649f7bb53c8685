"""Studies of this room's papers."""
