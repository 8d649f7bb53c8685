"""Two thermometers and no common reading: networks between them are learned from what must cancel out."""

import torch
from torch import nn

from neurarium.learning import SchemaGame
from neurarium.models import SchemaModel, cycle_gan
from neurarium.objectives import AdversarialLoss

generator = torch.Generator().manual_seed(0)
torch.manual_seed(0)
schema = cycle_gan((1,), (1,))
print(schema.summary())


def readings() -> dict[str, torch.Tensor]:
    """Skewed temperatures, so that only one increasing map makes one kind look like the other; never paired."""
    celsius, other = torch.rand(2, 128, 1, generator=generator) ** 2
    return {"A": celsius, "B": 1.8 * other + 0.32}


def critic() -> nn.Module:
    """A small judge of one number."""
    return nn.Sequential(nn.Linear(1, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))


model = SchemaModel(schema, {"f": nn.Linear(1, 1), "g": nn.Linear(1, 1)}, {"A": critic(), "B": critic()})
game = SchemaGame(model, AdversarialLoss("non_saturating"), weight=10.0)
networks, critics = (
    torch.optim.Adam(part.parameters(), 5e-3, betas=(0.5, 0.9)) for part in (model.networks, model.critics)
)
for step in range(1001):
    found = game.step(readings(), networks, critics)
    if step % 500 == 0:
        f = model.networks["f"]
        print(f"step {step}: f(x) = {f.weight.item():.2f} x + {f.bias.item():.2f} (in truth 1.80 x + 0.32)")
print({relation: round(float(loss), 4) for relation, loss in found.items()})
