"""Recurrences: state spaces, scans, recurrent units."""
