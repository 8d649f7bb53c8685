"""Imported once by the fork server, so that a trial's process starts with these modules loaded.

The first torch optimizer that is made imports ``torch._dynamo``, and loading data imports scikit-learn: together more
than two seconds of every trial.
"""

import sklearn.datasets  # noqa: F401
import torch._dynamo  # noqa: F401

import neurarium.data._arrays
import neurarium.lab.trial
import neurarium.training._loop  # noqa: F401
