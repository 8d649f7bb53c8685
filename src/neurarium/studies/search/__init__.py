"""Studies of the papers whose component is in `neurarium.search`."""
