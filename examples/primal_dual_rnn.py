"""A recurrent network stays stable by multipliers on the rows of its recurrent matrix, without a clipping threshold.

Chen & Deng, 2013: A Primal-Dual Method for Training Recurrent Neural Networks Constrained by the Echo-State Property
(arXiv 1311.6091).
"""

import torch
from torch.nn.functional import cross_entropy

from neurarium.data import Batches, phone_stream
from neurarium.learning import Backprop, Inequality, PrimalDual, echo_state_constraints
from neurarium.models import ARMARNN
from neurarium.probes import forgetting_rate
from neurarium.speech import bigram_viterbi, estimate_transitions, phone_error_rate
from neurarium.training import fit

torch.manual_seed(0)
speech = phone_stream(60, 20, frames=60)  # simulated: a label for every frame
model = ARMARNN(13, 32, 16, look_back=3, look_ahead=3)  # sigmoid units, window of 7 frames
with torch.no_grad():
    model.rnn.weight_hh_l0.mul_(1.5)

constrained = PrimalDual(echo_state_constraints(model), dual_lr=1e-3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
constrained.attach(optimizer)  # a dual step after every optimizer step


def frame_loss(logits, y):
    return cross_entropy(logits.flatten(0, 1), y.flatten())


fit(Backprop(model, frame_loss), Batches(speech.train, 10, shuffle=True), optimizer, epochs=8, penalties=(constrained,))
print(constrained.slack(), constrained.active())  # room to the bound, share of rows that push against it

w = torch.nn.Parameter(torch.zeros(2))
ball = PrimalDual(Inequality(lambda: w.square().sum() - 1.0), dual_lr=0.05)
optimizer = torch.optim.SGD([w], lr=0.05)
ball.attach(optimizer)
for _ in range(2000):
    optimizer.zero_grad()
    (0.5 * (w - torch.tensor([3.0, 4.0])).square().sum() + ball()).backward()
    optimizer.step()
print(w.data, ball.multipliers)  # 0.6, 0.8; multiplier 2

with torch.no_grad():
    stacked = model.stacked(speech.test.x[:4])
    scores = model(speech.test.x).log_softmax(-1)
print(forgetting_rate(model.rnn, stacked).summary())
path = bigram_viterbi(scores, estimate_transitions(speech.train.y, 16))
print(phone_error_rate(path, speech.test.y))
