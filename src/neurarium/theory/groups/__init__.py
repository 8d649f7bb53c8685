"""Words in finite groups as tensors: support and rank."""
