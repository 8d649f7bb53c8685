"""One label per item from many people's: votes, and votes weighed by who gave them."""
