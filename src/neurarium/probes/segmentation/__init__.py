"""How well pixels are labelled, and how a network bends its maps for it."""
