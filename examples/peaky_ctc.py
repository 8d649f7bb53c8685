"""CTC from a uniform start ends in blank nearly everywhere; dividing by the label prior cures it.

Zeyer, Schlüter, Ney, 2021: Why does CTC result in peaky behavior? (arXiv 2105.14849).
"""

import torch
from torch import nn

from neurarium.probes import peakiness
from neurarium.speech import (
    FullSumLoss,
    blank_drift,
    count,
    ctc_graph,
    exact_occupation,
    first_step,
    full_sum,
    greedy_labels,
    occupation,
    sample,
    viterbi,
)

x = torch.tensor([[0] * 4 + [1] * 8 + [0] * 4]).t()  # 16 frames, batch of 1; input 1 means that label 1 is spoken
targets, lengths, target_lengths = torch.tensor([[1]]), torch.tensor([16]), torch.tensor([1])

for loss in (FullSumLoss(), FullSumLoss(prior="stop")):
    model = nn.Sequential(nn.Embedding(2, 2), nn.LogSoftmax(-1))
    nn.init.zeros_(model[0].weight)
    print(first_step(model(x), targets, lengths, target_lengths).summary())
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(model(x), targets, lengths, target_lengths).backward()
        optimizer.step()
    print(greedy_labels(model(x)), peakiness(model(x), lengths).summary())

print(count(ctc_graph([[1]]), 100))  # 5050 alignments of one label with 100 frames
print(
    [str(row[1]) for row in exact_occupation(ctc_graph([[1]]), 5, 2)]
)  # their share that emits the label, frame by frame
for frames in (5, 20, 80):
    print(frames, blank_drift("ctc", frames, 3), blank_drift("silence", frames, 3))

log_probs = torch.randn(60, 2, 5).log_softmax(-1)
lengths = [60, 45]
graph = ctc_graph([[1, 2, 2], [3, 4]], self_loop=-1.0)  # each further frame of a label costs 1 nat
print(full_sum(log_probs, graph, lengths))
print(occupation(log_probs, graph, lengths).shape)  # the soft alignment, frames x batch x labels
print(viterbi(log_probs, graph, lengths).labels[0].tolist())
print(sample(log_probs, graph, lengths, n=3).scores.shape)
