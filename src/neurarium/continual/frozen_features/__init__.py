"""Classifiers that grow on features which do not change."""
