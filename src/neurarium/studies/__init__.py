"""One module per paper, in folders that mirror the rooms."""
