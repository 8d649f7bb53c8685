"""Play a generator against a discriminator on one-dimensional data, and hold both against the theory."""

import torch
from torch import nn

from neurarium.learning import AdversarialGame
from neurarium.probes import discriminator_report
from neurarium.theory import GaussianDiscriminator

torch.manual_seed(0)
source = torch.Generator().manual_seed(0)
generator = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))
discriminator = nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
game = AdversarialGame(generator, discriminator, features=1, source=source)
players = [torch.optim.Adam(m.parameters(), 2e-3, betas=(0.5, 0.999)) for m in (generator, discriminator)]


def data(count):
    """The law to follow."""
    return 3 + 0.7 * torch.randn(count, 1, generator=source)


for step in range(601):
    if step % 150 == 0:
        samples = game.sample(5_000, source)
        law = GaussianDiscriminator(
            torch.tensor([3.0]), torch.tensor([[0.49]]), samples.mean(0), samples.var(0, keepdim=True)
        )
        report = discriminator_report(discriminator, data(5_000), samples)
        print(f"step {step}: mean {float(samples.mean()):.2f}, deviation {float(samples.std()):.2f}, divergence "
              f"{law.divergence():.3f}; the discriminator sees {report.divergence:.3f}")  # fmt: skip
    game.step(data(128), *players)
