"""Mixtures of experts: several modules for one place, and a router that says which tokens go to which."""
