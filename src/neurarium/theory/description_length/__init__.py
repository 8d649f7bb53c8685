"""What the length of a description says of errors, and the shortest codes that are known for a class of sources."""
