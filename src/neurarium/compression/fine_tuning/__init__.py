"""Fine-tuning a small part of a large network."""
