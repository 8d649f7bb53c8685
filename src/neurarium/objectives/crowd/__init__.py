"""Classifiers that learn from what several people say of an example, and from what kind of people they are."""
