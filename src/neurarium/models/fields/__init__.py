"""Networks from coordinates to values."""
