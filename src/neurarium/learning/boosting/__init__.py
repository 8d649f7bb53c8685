"""Networks grown by gradient boosting."""
