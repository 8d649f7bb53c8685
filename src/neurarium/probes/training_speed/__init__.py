"""How fast a network can learn, and how fast it does."""
