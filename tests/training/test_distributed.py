"""Two ranks give what one process gives on the joined batch, for every rule; evaluation and the loop."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop
from neurarium.training import evaluate, fit

WORKER = """
import sys, torch, torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy
import neurarium.learning as room
from neurarium.testing.contract import blobs
from neurarium.training import all_reduce_gradients, broadcast_state

dist.init_process_group("gloo")
rank = dist.get_rank()
x, y = blobs(examples=64)
mine = slice(rank * 32, rank * 32 + 32)
for name in ("Backprop", "DirectFeedbackAlignment"):
    torch.manual_seed(rank)  # ranks begin apart
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    rule = getattr(room, name)(model, cross_entropy)
    rule.assign_credit(x[mine], y[mine])  # lazily sized buffers exist from here on
    rule.zero_grad()
    broadcast_state(rule)
    rule.assign_credit(x[mine], y[mine])
    all_reduce_gradients(rule.parameters())
    shared = {n: p.grad.clone() for n, p in rule.named_parameters()}
    rule.zero_grad()
    rule.assign_credit(x, y)
    for n, p in rule.named_parameters():
        assert torch.allclose(shared[n], p.grad, atol=1e-6), (name, n)
if rank == 0:
    print("ranks agree with one process")
dist.destroy_process_group()
"""


def test_two_ranks_equal_one_process_on_the_joined_batch(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )  # fmt: skip
    assert "ranks agree with one process" in done.stdout, done.stderr[-2000:]


def problem():
    torch.manual_seed(0)
    x = torch.randn(64, 5)
    return nn.Linear(5, 3), [(x, x[:, :3].argmax(1))]


def test_fit_is_the_loop_written_by_hand():
    model, loader = problem()
    twin = nn.Linear(5, 3)
    twin.load_state_dict(model.state_dict())
    fit(Backprop(model, cross_entropy), loader, torch.optim.SGD(model.parameters(), 0.1), epochs=5)
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        cross_entropy(twin(loader[0][0]), loader[0][1]).backward()
        optimizer.step()
    assert torch.equal(model.weight, twin.weight)


def test_a_penalty_is_added_to_the_gradient():
    model, loader = problem()
    with torch.no_grad():
        model.weight.fill_(1.0)
    seen = []
    fit(
        Backprop(model, cross_entropy), loader, torch.optim.SGD(model.parameters(), 0.0),
        penalties=[lambda: 10 * model.weight.sum()], callbacks=[lambda step, loss: seen.append((step, loss))],
    )  # fmt: skip
    extra = model.weight.grad.clone()
    model.zero_grad()
    cross_entropy(model(loader[0][0]), loader[0][1]).backward()
    assert torch.allclose(extra - model.weight.grad, torch.full_like(extra, 10.0))
    assert seen[0][0] == 1


def test_evaluate_weighs_batches_by_their_size_and_puts_the_mode_back():
    model = nn.Sequential(nn.Dropout(0.5), nn.Identity()).train()
    x = torch.eye(3)
    batches = [(x, torch.tensor([0, 1, 2])), (x[:1], torch.tensor([2]))]
    assert evaluate(model, batches) == pytest.approx(0.75)
    assert model.training


def test_what_cannot_be_trained_is_said():
    model, loader = problem()
    optimizer = torch.optim.SGD(model.parameters(), 1e30)
    with pytest.raises(ValueError, match="gave no batches"):
        fit(Backprop(model, cross_entropy), [], optimizer)
    with pytest.raises(ValueError, match="epochs must not be negative"):
        fit(Backprop(model, cross_entropy), loader, optimizer, epochs=-1)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(Backprop(model, cross_entropy), [(x * 1e20, y) for x, y in loader], optimizer, epochs=4)
    with pytest.raises(ValueError, match="gave no batches"):
        evaluate(model, [])
