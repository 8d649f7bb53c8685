"""Formal languages: tasks by level of the Chomsky hierarchy, automata, and programs of a universal machine."""
