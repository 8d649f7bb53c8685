"""Parts of convolutional networks in one, two and three dimensions."""
