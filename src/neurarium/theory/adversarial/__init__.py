"""What the players of a game would reach: best discriminators and the divergence they measure."""
