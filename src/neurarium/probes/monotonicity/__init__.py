"""Whether a network is monotonic: proved from its parts, or measured."""
