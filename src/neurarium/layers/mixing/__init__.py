"""Mixing of tokens without attention: linear maps across patches, affine maps in the place of norms."""
