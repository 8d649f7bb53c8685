"""Statistical mechanics of Hebbian networks."""
