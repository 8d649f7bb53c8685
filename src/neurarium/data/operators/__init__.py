"""Maps from functions to functions: random functions, what solvers make of them, and both as examples."""
