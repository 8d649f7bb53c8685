"""Classifiers of raw series: multilayer perceptron, fully convolutional and residual network."""
