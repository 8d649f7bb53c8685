"""What attention weights look like."""
