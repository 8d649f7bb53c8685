"""What networks of infinite width make of permuted bits."""
