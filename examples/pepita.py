"""Learning from two forward passes, the second perturbed by the error, is feedback alignment that adapts.

Srinivasan et al., 2023: Forward Learning with Top-Down Feedback: Empirical and Analytical Characterization (arXiv
2302.05440).
"""

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import AdaptiveFeedbackAlignment, Pepita, WeightMirror
from neurarium.probes import alignment, feedback_angle
from neurarium.theory import TeacherStudent, order_parameter_dynamics, simulate

torch.manual_seed(0)
x = torch.randn(512, 20)
y = (x[:, 0] > 0).long() + 2 * (x[:, 2] > 0).long()
model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 4))
rule = Pepita(model, cross_entropy, factored=True)  # F = B_1 B_2, so that it can be mirrored
mirror = WeightMirror(rule)
optimizer = torch.optim.SGD(rule.parameters(), lr=0.1)
for epoch in range(5):
    for _ in range(40):
        optimizer.zero_grad()
        rule.assign_credit(x, y)  # in place of loss.backward()
        optimizer.step()
    mirror.step(100)  # optional: noise through the layers turns F towards -(W_2 W_1)ᵀ
print(float((rule(x).argmax(1) == y).float().mean()))
print(feedback_angle(rule).summary())  # beyond 90°: F opposes the weights, as it must to descend
print(alignment(rule, x, y).summary())  # each layer's signal against the gradient

for scale in (0.05, 0.025, 0.0125):
    net = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 4)).double()
    updates = []
    for kind in (Pepita, AdaptiveFeedbackAlignment):
        other = kind(net, cross_entropy, feedback_scale=scale, generator=torch.Generator().manual_seed(0))
        net.zero_grad()
        other.assign_credit(x.double(), y)
        updates.append(net[0].weight.grad.clone())
    print(scale, float((updates[0] - updates[1]).norm() / updates[1].norm()))

start = TeacherStudent.draw(300, (0.5, -0.4))  # 300 inputs; w·F/N of the two hidden units
for kind in ("afa", "dfa", "backprop"):
    exact = order_parameter_dynamics(start, [0, 2, 4], rule=kind, dt=0.1)
    print(kind, [round(e, 3) for e in exact.error], [round(e, 3) for e in simulate(start, [0, 2, 4], rule=kind).error])
