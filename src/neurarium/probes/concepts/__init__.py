"""What a network says of concepts, classes and groups."""
