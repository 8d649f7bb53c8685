"""On a frozen pre-trained encoder the mean feature of each class is a better memory than a head that is trained.

Janson et al., 2022: A Simple Baseline that Questions the Use of Pretrained-Models in Continual Learning (arXiv
2210.04428).
"""

from torch import nn

from neurarium.continual import NearestMeanClassifier, StreamingLDA, learn_stream
from neurarium.data import load, split_stream
from neurarium.models import FrozenEncoder

digits = load("digits").map_inputs(lambda x: x.float().flatten(1))  # features; an encoder goes in as first argument
stream = split_stream(digits, classes_per_task=2)  # 0/1, then 2/3, ...
for classifier in (NearestMeanClassifier(), NearestMeanClassifier(metric="cosine"), StreamingLDA(shrinkage=0.01)):
    matrix = learn_stream(classifier, stream)
    print(type(classifier).__name__, round(matrix.average_accuracy, 3), round(matrix.forgetting, 3))

x, y = digits.train.x, digits.train.y
names = [digits.classes[c] + "!" for c in y.tolist()]
here, there = NearestMeanClassifier(), NearestMeanClassifier()
here.observe(x[:600], names[:600])
there.observe(x[600:], names[600:])
here.merge(there)  # as if fitted on all of it
here.remove(x[:100], names[:100])  # as if these had never been seen
print(here.classify(digits.test.x[:5]), here.counts.sum())

net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
encoder = FrozenEncoder(net, layer="1")
features = [encoder.encode(task) for task in stream]
print(features[0].train.x.shape, learn_stream(StreamingLDA(), features).average_accuracy)
