"""Tables as people have them: files read, columns understood, turned into numbers by the training rows alone."""
