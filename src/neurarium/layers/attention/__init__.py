"""Attention whose weights come from something else than softmax."""
