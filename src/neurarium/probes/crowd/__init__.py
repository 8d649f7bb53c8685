"""What annotators are like, and how well a model knows them."""
