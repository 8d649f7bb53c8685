"""Many heads: their joint loss, and one answer from all."""
