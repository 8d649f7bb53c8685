"""What does a network tend to as it gets deeper? Three averages of its activation say it.

Radhakrishnan, Belkin and Uhler, 2022: Wide and Deep Neural Networks Achieve Optimality for Classification
(arXiv 2204.14126).
"""

import torch
from torch import nn

from neurarium.data import SphereTask
from neurarium.theory import DeepKernelClassifier, SingularKernelClassifier, classify_activation, optimal_activation

for name, activation in {"ReLU": torch.relu, "tanh": torch.tanh, "GELU": nn.GELU(), "sigmoid": torch.sigmoid}.items():
    print(f"{name:8}{classify_activation(activation).summary()}")

task, generator = SphereTask(dim=2, noise=0.2), torch.Generator().manual_seed(0)
train, test = task.draw(500, generator), task.inputs(500, generator)
for name, model in {
    "infinitely deep, optimal activation": DeepKernelClassifier(optimal_activation(2)),
    "30 layers of it": DeepKernelClassifier(optimal_activation(2), depth=30),
    "nearest neighbour": SingularKernelClassifier(float("inf")),
}.items():
    error = task.error(test, model.fit(train.x, train.y).predict(test))
    print(f"{name}: error {error:.3f} (the best possible is {task.noise})")
