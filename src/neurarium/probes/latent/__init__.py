"""What the code of an autoencoder holds and how it is read."""
