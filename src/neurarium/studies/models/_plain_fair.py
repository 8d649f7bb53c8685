"""The fair task without concepts: a plain network, with or without an adversary that reads the attribute."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from neurarium.data import Arrays, Batches
from neurarium.lab import Run
from neurarium.layers import GradientReversal
from neurarium.models import plain_mlp
from neurarium.studies.models._concept_data import Task


class Training(Protocol):
    """What the fit needs of a study's settings."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def latent_dim(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def adversary(self) -> float: ...


def fit_plain(settings: Training, task: Task, run: Run) -> tuple[Tensor, Tensor]:
    """Scores of the label and latents on the test inputs, after training.

    The reader of the attribute is there in both cases; its gradient reaches the encoder times minus ``adversary``.
    """
    encoder = plain_mlp(task.x.shape[1], settings.latent_dim, width=settings.width, depth=3)
    head = nn.Linear(settings.latent_dim, 2)
    reader = nn.Sequential(GradientReversal(settings.adversary), *plain_mlp(settings.latent_dim, 2, width=64, depth=1))
    model = nn.ModuleList([encoder, head, reader]).to(run.device)
    optimizer = torch.optim.Adam(model.parameters(), settings.lr)
    rows = torch.arange(len(task.x), device=task.x.device)
    batches = Batches(Arrays(task.x, rows), settings.batch_size, shuffle=True, seed=run.seed)
    for _ in run.track(range(settings.epochs), "epochs"):
        for x, rows in batches:
            optimizer.zero_grad()
            z = encoder(x)
            loss = cross_entropy(head(z), task.labels["label"][rows])
            (loss + cross_entropy(reader(z), task.labels["attribute"][rows])).backward()
            optimizer.step()
    with torch.no_grad():
        z = encoder(task.test_x)
        return head(z), z
