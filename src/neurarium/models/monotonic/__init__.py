"""Networks that are monotonic by construction, and estimators of them."""
