"""Online learning from a teacher, exactly."""
