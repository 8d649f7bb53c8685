"""Formal languages: tasks by level of the Chomsky hierarchy, and automata."""
