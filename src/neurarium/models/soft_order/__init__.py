"""Flexible models that prefer simple ones softly, instead of being made small by hand."""
