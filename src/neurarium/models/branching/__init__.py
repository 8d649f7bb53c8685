"""Networks whose stages branch and never join."""
