"""Adapting a trained network to the unlabelled data that it is used on."""
