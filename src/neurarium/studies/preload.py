"""Imported once by the fork server of a comparison: what tables, recipes and their references need.

Without it each of some hundred trials would spend three seconds on it.
"""

import sklearn.ensemble
import sklearn.linear_model
import sklearn.neighbors  # noqa: F401
import skrub  # noqa: F401

import neurarium.compression
import neurarium.continual
import neurarium.learning
import neurarium.studies.idea  # noqa: F401
