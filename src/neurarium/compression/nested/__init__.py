"""One set of weights that holds networks of many sizes."""
