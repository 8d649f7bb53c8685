"""What a sequence model computes: how far it generalises, what it does to its memory, which automaton it is."""
