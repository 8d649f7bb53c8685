"""Made-up sequences, stories and patterns whose every property is known."""
