"""Strategies that hold back weights which earlier tasks rely on."""
