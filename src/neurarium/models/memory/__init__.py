"""Recurrent networks with a memory beside their state: stacks and tapes."""
