"""DeepONet's shared places against triples, the stacked branch against a loop of networks, solving against scipy.

python benchmarks/deeponet.py
"""

import time

import torch
from scipy.integrate import solve_ivp
from torch import nn

from neurarium.data import gaussian_field, pendulum
from neurarium.models import DeepONet

torch.set_num_threads(1)


def seconds(function, repeats: int = 5) -> float:
    """Processor seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)


u, y = torch.randn(256, 100), torch.rand(1000, 1)
model = DeepONet.mlp(100)
rows_u, rows_y = u.repeat_interleave(1000, 0), y.repeat(256, 1)
shared = seconds(lambda: model(u, y, True).sum().backward())
triples = seconds(lambda: model(rows_u, rows_y, False).sum().backward(), 2)
print(f"256 functions at 1,000 places, a step: shared {shared * 1e3:.0f} ms, triples {triples / shared:.0f} times that")

stacked = DeepONet.mlp(100, stacked=True).branches[0]
loop = [nn.Sequential(nn.Linear(100, 40), nn.ReLU(), nn.Linear(40, 1)) for _ in range(40)]
batch = torch.randn(100, 100)
one = seconds(lambda: stacked(batch).sum().backward(), 20)
many = seconds(lambda: torch.cat([net(batch) for net in loop], 1).sum().backward(), 20)
print(f"40 stacked networks on 100 functions, a step: {one * 1e3:.1f} ms, a loop {many / one:.1f} times that")

draw = seconds(lambda: gaussian_field(1000), 3)
print(f"1,000 draws of a Gaussian field on 1,000 points: {draw * 1e3:.0f} ms")

force = gaussian_field(1000, points=100)
ours = seconds(lambda: pendulum(force), 3) / len(force)
grid = torch.linspace(0, 1, 100).numpy()


def scipys() -> None:
    """Three functions, one after the other."""
    for row in force[:3].numpy():
        solve_ivp(lambda t, s, row=row: [s[1], row[int(t * 99)] - s[0]], (0, 1), [0, 0], t_eval=grid)


print(f"pendulum: {ours * 1e6:.0f} µs a function, scipy's RK45 {seconds(scipys, 2) / 3 / ours:.0f} times that")
