"""Losses of games between a generator and a discriminator."""
