"""Neural collapse measured: how features of a class gather, and what the classifier makes of them."""
