"""Imported once by the fork server, so that a trial's process starts with these modules loaded."""

import neurarium.data.arrays
import neurarium.lab.trial
import neurarium.training.loop  # noqa: F401
