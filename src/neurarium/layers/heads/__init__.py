"""What stands at the end of a classifier: heads, prototypes, selections."""
