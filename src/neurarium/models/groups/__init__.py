"""Networks that compute in finite groups, trained or written down."""
