"""What bends a run from outside the rule: the order of data, noise on gradients, the form of a step."""
