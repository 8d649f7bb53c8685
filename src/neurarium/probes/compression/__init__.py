"""How well a model compresses: code lengths of sequences and of labels."""
