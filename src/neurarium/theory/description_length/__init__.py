"""What the length of a description says of errors."""
