"""How well networks that map functions to functions have learned."""
