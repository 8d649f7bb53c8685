"""What a learner of compositions can know from its examples, and what a model holds of them."""
