"""The Fisher information and what it says of single weights."""
