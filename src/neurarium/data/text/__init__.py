"""Text by class, pairs of sentences, corpora of characters, and word vectors."""
