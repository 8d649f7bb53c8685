"""From frame scores to labels."""
