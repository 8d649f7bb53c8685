"""Forecasting where training is going, and jumping there."""
