"""Networks that code their input in a few numbers and make it again from them."""
