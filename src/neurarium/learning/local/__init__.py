"""Rules that give every block of a network a loss of its own."""
