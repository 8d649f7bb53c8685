"""Train on a long tail with and without the two collapse penalties, then train the classifier again."""

import copy
from contextlib import nullcontext

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, load, long_tailed_subset
from neurarium.learning import Backprop, retrain_classifier
from neurarium.objectives import FeatureLoss, NeuralCollapseRegularizer
from neurarium.probes import neural_collapse
from neurarium.training import evaluate, fit

data = load("mnist-small").scaled().flat()
train = data.train[long_tailed_subset(data.train.y, imbalance=50, largest=300)]
test = Batches(data.test, 500)

for name in ("cross-entropy", "with both terms"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    penalty = NeuralCollapseRegularizer(num_classes=10, feature_dim=64)
    penalty.attach(optimizer)  # the centres take their own step after each of the optimizer's
    plain = name == "cross-entropy"
    with nullcontext(cross_entropy) if plain else FeatureLoss(model, cross_entropy, penalty) as loss:
        fit(Backprop(model, loss), Batches(train, 64, shuffle=True), optimizer, epochs=30)
    again = retrain_classifier(copy.deepcopy(model), Batches(train, 500))
    report = neural_collapse(model, Batches(train, 500))
    print(f"{name}: accuracy {evaluate(model, test):.3f}, classifier trained again {evaluate(again, test):.3f}")
    print("  " + report.summary().replace("\n", "\n  "))
