"""Schemas are checked as they are written; models of them are functors; a game learns inverses from unpaired data."""

import copy

import matplotlib.pyplot as plt
import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from neurarium.learning import AdversarialGame, SchemaGame
from neurarium.models import (
    Arrow,
    Projection,
    Schema,
    SchemaModel,
    Type,
    autoencoder_schema,
    cycle_gan,
    identity,
    pair,
    product_task,
)
from neurarium.objectives import AdversarialLoss


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Two(nn.Module):
    """Two inputs to one output, or one to two."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.outputs, self.map = outputs, nn.Linear(inputs, sum(outputs))

    def forward(self, *x):
        y = self.map(torch.cat(x, 1))
        return tuple(y.split(self.outputs, 1)) if len(self.outputs) > 1 else y


@pytest.fixture
def cycle():
    torch.manual_seed(0)
    schema = cycle_gan((4,), (3,))
    critics = {"A": nn.Linear(4, 1), "B": nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))}
    return SchemaModel(schema, {"f": nn.Linear(4, 3), "g": nn.Linear(3, 4)}, critics)


@pytest.fixture
def batch():
    return {"A": torch.randn(6, 4, generator=seeded()), "B": torch.randn(6, 3, generator=seeded(1))}


def test_a_path_is_the_composition_of_its_arrows(cycle, batch):
    f, g = cycle.schema.arrows
    x = batch["A"]
    assert torch.equal(cycle[g @ f](x), cycle[g](cycle[f](x)))
    assert torch.equal(cycle[(f @ g) @ f](x), cycle[f @ (g @ f)](x))
    assert (f @ g) @ f == f @ (g @ f)
    assert cycle[identity(f.source)](x) is x
    assert f @ identity(f.source) == identity(f.target) @ f
    assert str(g @ f) == "g.f"
    assert str(identity(f.source)) == "id_A"


def test_an_arrow_used_twice_is_the_same_parameters(cycle):
    f, g = cycle.schema.arrows
    once, twice = cycle.parameters_of(f), cycle.parameters_of(f @ g @ f)
    assert len(once) == 2
    assert len(twice) == 4
    endo = Arrow("e", f.source, f.source)
    model = SchemaModel(Schema([endo]), {"e": nn.Linear(4, 4)})
    assert model.parameters_of(endo @ endo @ endo) == model.parameters_of(endo)


def test_products_have_projections_and_pairings():
    schema = product_task((5,), (3,), (2,))
    take, put = schema.arrows
    model = SchemaModel(schema, {"d": Two(5, (3, 2)), "c": Two(5, (5,))})
    x = torch.randn(4, 5)
    a, b = model[take](x)
    first, second = (Projection(take.target, i) for i in (0, 1))
    assert torch.equal(model[first @ take](x), a)
    both = pair(first @ take, second @ take)
    assert all(torch.equal(p, q) for p, q in zip(model[both](x), (a, b), strict=True))
    assert torch.equal(model[put @ both](x), model[put @ take](x))
    other = model[pair(first, second @ take @ put)]((a, b))
    assert torch.equal(other[0], a)
    assert "d: C -> A × B" in schema.summary()
    assert "d.c ~ id_A × B" in schema.summary()


def test_violations_are_distances(cycle, batch):
    f, g = cycle.schema.arrows
    assert float(cycle.violation((g @ f, g @ f), batch).detach()) == 0
    there, back = (g @ f, identity(f.source)), (identity(f.source), g @ f)
    assert torch.equal(cycle.violation(there, batch), cycle.violation(back, batch))
    expected = (cycle.networks["g"](cycle.networks["f"](batch["A"])) - batch["A"]).abs().mean()
    torch.testing.assert_close(cycle.violation(there, batch), expected)


def test_the_loss_of_the_cycle_is_the_one_written_by_hand(cycle, batch):
    game = SchemaGame(cycle, AdversarialLoss(), weight=10.0)
    f, g = (cycle.networks[name] for name in "fg")
    x, y = batch["A"], batch["B"]
    adversarial = softplus(-cycle.critics["B"](f(x))).mean() + softplus(-cycle.critics["A"](g(y))).mean()
    total = adversarial + 10 * ((g(f(x)) - x).abs().mean() + (f(g(y)) - y).abs().mean())
    expected = torch.autograd.grad(total, list(cycle.networks.parameters()))
    parts = game.network_credit(batch)
    for p, wanted in zip(cycle.networks.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(parts["adversarial"], adversarial.detach())
    assert all(p.grad is None for p in cycle.critics.parameters())


def test_without_weight_the_games_are_independent(cycle, batch):
    loss = AdversarialLoss()
    SchemaGame(cycle, loss, weight=0.0).network_credit(batch)
    found = [p.grad.clone() for p in cycle.networks["f"].parameters()]
    alone = AdversarialGame(copy.deepcopy(cycle.networks["f"]), cycle.critics["B"], loss, features=4)
    alone.generator.zero_grad()
    alone.draw = lambda count, source=None: batch["A"]
    alone.generator_credit(6)
    for p, wanted in zip(alone.generator.parameters(), found, strict=True):
        torch.testing.assert_close(p.grad, wanted)
    cycle.zero_grad()
    SchemaGame(cycle, loss).critic_credit(batch)
    critic = [p.grad.clone() for p in cycle.critics["B"].parameters()]
    alone.zero_grad()
    alone.discriminator_credit(batch["B"][:, :3])
    for p, wanted in zip(alone.discriminator.parameters(), critic, strict=True):
        torch.testing.assert_close(p.grad, wanted)


def test_relations_alone_teach_linear_networks_to_invert_each_other():
    torch.manual_seed(0)
    model = SchemaModel(cycle_gan((3,), (3,)), {"f": nn.Linear(3, 3), "g": nn.Linear(3, 3)})
    with torch.no_grad():
        model.networks["f"].weight.copy_(torch.tensor([[1.0, 0.5, 0], [0, 1, 0.5], [0.5, 0, 1]]))
    model.networks["f"].requires_grad_(False)
    game = SchemaGame(model, weight=1.0, norm="l2")
    batch = {"A": torch.randn(64, 3), "B": torch.randn(64, 3)}
    optimizer = torch.optim.LBFGS(model.networks["g"].parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        return sum(list(game.network_credit(batch).values())[1:])

    optimizer.step(closure)
    inverse = torch.linalg.inv(model.networks["f"].weight)
    torch.testing.assert_close(model.networks["g"].weight, inverse, atol=1e-3, rtol=0)
    assert all(float(model.violation(r, batch, "l2").detach()) < 1e-5 for r in model.schema.relations)


def test_what_paths_share_is_computed_once(cycle, batch):
    calls = []
    cycle.networks["f"].register_forward_hook(lambda *_: calls.append(1))
    SchemaGame(cycle).network_credit(batch)
    assert len(calls) == 2  # f(x), for its critic and for g.f, and f(g(y))


def test_a_step_moves_networks_and_critics_and_draws_codes():
    torch.manual_seed(0)
    schema = autoencoder_schema((5,), (2,))
    model = SchemaModel(
        schema, {"encode": nn.Linear(5, 2), "decode": nn.Linear(2, 5)}, {"Z": nn.Linear(2, 1), "X": nn.Linear(5, 1)}
    )
    game = SchemaGame(model, AdversarialLoss("least_squares"), source=seeded())
    first, second = (torch.optim.SGD(side.parameters(), 0.1) for side in (model.networks, model.critics))
    before = copy.deepcopy(model.state_dict())
    parts = game.step({"X": torch.randn(8, 5)}, first, second)
    assert set(parts) == {"critics", "adversarial", "decode.encode ~ id_X"}
    assert all(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items() if "weight" in name)


def test_a_map_of_schemas_reuses_the_networks(cycle, batch):
    a = cycle.schema.types["A"]
    f, g = cycle.schema.arrows
    there_and_back = Schema([Arrow("round", a, a)])
    model = cycle.pulled_back(there_and_back, {"round": g @ f})
    assert torch.equal(model[there_and_back.arrows[0]](batch["A"]), cycle[g @ f](batch["A"]))
    assert set(model.parameters_of(there_and_back.arrows[0])) >= set(cycle.networks.parameters())


def test_a_schema_can_be_drawn():
    assert len(cycle_gan((4,), (3,)).plot(plt.figure().gca()).texts) >= 5


def test_refusals(cycle, batch):
    a, b, c = Type("A", (4,)), Type("B", (3,)), Type("C", (2,))
    f, g = Arrow("f", a, b), Arrow("g", b, c)
    with pytest.raises(ValueError, match="cannot be composed"):
        f @ g
    with pytest.raises(ValueError, match=r"g\.f ~ id_A are not parallel: A -> C against A -> A"):
        Schema([f, g], [(g @ f, identity(a))])
    with pytest.raises(ValueError, match="two arrows"):
        Schema([f, Arrow("f", a, c)])
    with pytest.raises(ValueError, match="two types"):
        Schema([f, Arrow("h", Type("A", (9,)), c)])
    with pytest.raises(ValueError, match="no arrow of the schema"):
        Schema([f], [(Arrow("h", a, b), f)])
    with pytest.raises(ValueError, match=r"maps \(4,\) to \(2,\), but the arrow promises \(3,\)"):
        SchemaModel(Schema([f]), {"f": nn.Linear(4, 2)})
    with pytest.raises(ValueError, match="does not take"):
        SchemaModel(Schema([f]), {"f": nn.Linear(5, 3)})
    with pytest.raises(ValueError, match="no network for 'f'"):
        SchemaModel(Schema([f]), {})
    with pytest.raises(ValueError, match="no type 'Q'"):
        SchemaModel(Schema([f]), {"f": nn.Linear(4, 3)}, {"Q": nn.Linear(1, 1)})
    for name in ("to", "training", "a.b"):
        with pytest.raises(ValueError, match="cannot be the name of a network"):
            SchemaModel(Schema([Arrow(name, a, b)]), {name: nn.Linear(4, 3)})
    with pytest.raises(ValueError, match="no examples of the type B"):
        SchemaGame(cycle).network_credit({"A": batch["A"]})
    with pytest.raises(ValueError, match="must begin at one object"):
        pair(f, g)
    with pytest.raises(ValueError, match="weight"):
        SchemaGame(cycle, weight=-1)
