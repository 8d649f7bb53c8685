"""Energy models with one layer of hidden units, and deep networks made of them."""
