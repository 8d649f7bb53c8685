"""Excess correlation, statistics, explanations, roles and interventions against identities and numpy."""

import copy
import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from neurarium.data import token_features
from neurarium.models import CausalTransformer
from neurarium.probes import (
    excess_correlation,
    explain_neurons,
    head_deactivation,
    intervene,
    neuron_roles,
    neuron_statistics,
    path_ablation,
    unit_correlations,
)
from neurarium.probes.neurons._excess_correlation import hidden_layers
from neurarium.probes.neurons._intervention import held
from neurarium.probes.neurons._neuron_roles import folded_unembedding


def decoder(seed=0, **sizes):
    torch.manual_seed(seed)
    return CausalTransformer(
        20, **{"d_model": 16, "nhead": 2, "num_layers": 2, "dim_feedforward": 24, "context": 12} | sizes
    )


def tokens(batches=4, seed=0):
    return list(torch.randint(0, 20, (batches, 6, 12), generator=torch.Generator().manual_seed(seed)))


def hidden(model, layer, batch):
    kept = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _, args: kept.append(args[0]))
    model.eval()(batch)
    handle.remove()
    return kept[0].detach()


def test_the_hidden_neurons_are_found():
    assert hidden_layers(decoder()) == ["layers.0.linear2:input", "layers.1.linear2:input"]
    with pytest.raises(ValueError, match="no feed-forward"):
        hidden_layers(nn.Linear(3, 3))


def test_a_model_is_its_own_sibling():
    model = decoder()
    found = excess_correlation(model, model, tokens())
    live = found.best[0] > 0
    assert live.double().mean() > 0.8
    assert torch.allclose(found.best[0][live], torch.ones_like(found.best[0][live]), atol=1e-5)
    assert torch.equal(found.partner[0][live], torch.arange(48)[live])
    assert torch.allclose(found.excess[live], 1 - found.baseline[0][live], atol=1e-5)
    assert found.samples == 4 * 72
    assert int(found.partner_layers(-1.0).diagonal().sum()) >= int(live.sum())
    assert "few tokens" in found.summary()


def test_permuted_neurons_are_found_again():
    model = decoder()
    other, order = copy.deepcopy(model), torch.randperm(24)
    with torch.no_grad():
        for layer in other.layers:
            layer.linear1.weight.copy_(layer.linear1.weight[order])
            layer.linear1.bias.copy_(layer.linear1.bias[order])
            layer.linear2.weight.copy_(layer.linear2.weight[:, order])
    found = excess_correlation(model, [other], tokens())
    live = torch.nonzero(found.best[0] > 0).flatten()
    back = torch.cat([order.argsort(), order.argsort() + 24])
    assert torch.equal(found.partner[0][live], back[live])


def test_best_and_baseline_equal_those_of_whole_tables():
    model, other = decoder(), decoder(1)
    data = tokens()
    found = excess_correlation(model, [other, model], data, precision=torch.float64, seed=5)
    names = hidden_layers(model)
    tables = unit_correlations(model, other, data, names, names, pairs="all")
    best = torch.cat([torch.stack([tables[i, j].matrix.amax(1) for j in names]).amax(0) for i in names])
    assert torch.allclose(found.best[0], best, atol=1e-8)
    turned = torch.cat(
        [torch.stack([tables[i, j].rotated(5 + k).matrix.amax(1) for k, j in enumerate(names)]).amax(0) for i in names]
    )
    assert torch.allclose(found.baseline[0], turned, atol=1e-8)
    assert torch.allclose(found.excess, (found.best - found.baseline).mean(0))
    matching = excess_correlation(model, other, data, pairs="matching", precision=torch.float64)
    assert torch.allclose(matching.best[0], torch.cat([tables[i, i].matrix.amax(1) for i in names]), atol=1e-8)


def test_the_baseline_of_independent_neurons_is_that_of_chance():
    class Noise(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.table = nn.Embedding(4000, 64)
            nn.init.normal_(self.table.weight, generator=torch.Generator().manual_seed(seed))
            self.last = nn.Identity()

        def forward(self, x):
            return self.last(self.table(x))

    data = [torch.arange(4000).view(40, 100)]
    found = excess_correlation(Noise(1), Noise(2), data, ["last"])
    expected = math.sqrt(2 * math.log(64) / 4000)
    assert float(found.baseline.mean()) == pytest.approx(expected, rel=0.25)
    assert abs(float(found.excess.mean())) < 0.01


def test_excluded_tokens_have_no_influence():
    model, other = decoder(), decoder(1)
    data = tokens()
    padded = [{"input_ids": torch.cat([b, b[:, :0]], 1), "attention_mask": torch.ones_like(b)} for b in data]

    class Named(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask=None):
            return self.inner(input_ids)

    plain = excess_correlation(model, other, data, exclude=[3])
    named = excess_correlation(Named(model), Named(other), padded, exclude=[3])
    assert plain.samples == sum(int((b != 3).sum()) for b in data)
    assert torch.allclose(plain.excess, named.excess, atol=1e-6)


def test_what_does_not_fit_is_said():
    model = decoder()
    with pytest.raises(ValueError, match="at least one model"):
        excess_correlation(model, [], tokens())
    other = CausalTransformer(21, 16, 2, 2, 24, 12)
    with pytest.raises(ValueError, match="knows 20 tokens and a sibling 21"):
        excess_correlation(model, other, tokens())
    with pytest.raises(ValueError, match="2 layers of neurons"):
        excess_correlation(model, decoder(num_layers=1), tokens())
    with pytest.raises(ValueError, match="memory=1e-05"):
        excess_correlation(model, model, tokens(), memory=1e-5)


def test_statistics_equal_scipys():
    model, data = decoder(), tokens()
    found = neuron_statistics(model, data)
    x = torch.cat([hidden(model, "layers.1.linear2", b).flatten(0, 1) for b in data]).double().numpy()
    moving = x.std(0) > 0
    columns = {name: column[24:].numpy()[moving] for name, column in found.columns.items()}
    assert np.allclose(columns["mean"], x.mean(0)[moving], rtol=1e-6)
    assert np.allclose(columns["variance"], x.var(0)[moving], rtol=1e-6)
    assert np.allclose(columns["skew"], scipy.stats.skew(x[:, moving]), rtol=1e-6)
    assert np.allclose(columns["kurtosis"], scipy.stats.kurtosis(x[:, moving], fisher=False), rtol=1e-6)
    assert np.allclose(columns["sparsity"], (x > 0).mean(0)[moving])
    layer = model.layers[1]
    assert np.allclose(columns["w_in"], layer.linear1.weight.norm(dim=1).detach()[moving], rtol=1e-6)
    assert np.allclose(columns["w_out"], layer.linear2.weight.norm(dim=0).detach()[moving], rtol=1e-6)
    assert np.allclose(columns["bias"], layer.linear1.bias.detach()[moving])


class Marker(nn.Module):
    """Neuron 0 marks token 7, neuron 1 the token after a 7, neuron 2 the first place, neuron 3 is dead."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(20, 4)
        self.last = nn.Identity()

    def forward(self, x):
        seven = (x == 7).float()
        after = torch.cat([torch.zeros_like(seven[:, :1]), seven[:, :-1]], 1)
        first = torch.zeros_like(seven)
        first[:, 0] = 1
        return self.last(torch.stack([seven, after, 3 * first - 1, torch.ones_like(seven)], -1))


def test_indicator_neurons_are_explained_wholly():
    vocabulary = [chr(97 + i) for i in range(20)]
    features = token_features(vocabulary, common=[7, 3], context=12)
    found = explain_neurons(Marker(), tokens(20), features, ["last"])
    assert torch.allclose(found.reduction[:3], torch.ones(3).double(), atol=1e-9)
    assert [found.features[i] for i in found.best[:3]] == ["begins with h", "after: begins with h", "first place"]
    assert float(found.table[:, 3].max()) == 0
    other = found.table[found.features.index("is 'd'"), 0]
    assert float(other) < 0.02
    assert 0 <= float(found.table.min()) <= float(found.table.max()) <= 1
    assert "last[0]" in found.summary()


def test_reduction_is_the_law_of_total_variance():
    model, data = decoder(), tokens(10)
    found = explain_neurons(model, data, {"even": lambda t: t % 2 == 0})
    x = torch.cat([hidden(model, "layers.0.linear2", b).flatten(0, 1) for b in data]).double()
    even = torch.cat([(b % 2 == 0).flatten() for b in data])
    p = even.double().mean()
    inside = p * x[even].var(0, correction=0) + (1 - p) * x[~even].var(0, correction=0)
    variance = x.var(0, correction=0)
    live = variance > 0
    assert torch.allclose(found.reduction[:24][live], ((variance - inside) / variance)[live], atol=1e-10)


def test_folding_and_centring_leave_the_predictions():
    model = decoder()
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
    unembedding, centred = folded_unembedding(model, None, None)
    assert centred
    x = torch.randn(5, 16)
    plain = nn.functional.layer_norm(x - x.mean(1, keepdim=True), (16,)).double() @ unembedding.T
    whole = model.norm(x) @ model.head.weight.T  # the norm's bias and the head's shift logits by constants
    shift = model.norm.bias @ model.head.weight.T
    assert torch.allclose(plain.log_softmax(1), (whole - shift).double().log_softmax(1), atol=1e-5)


def test_roles_equal_moments_by_hand():
    model = decoder()
    found = neuron_roles(model)
    unembedding, _ = folded_unembedding(model, "head", "norm")
    out = model.layers[1].linear2.weight.T.double().detach()[3]
    out = out - out.mean()
    cosine = torch.cosine_similarity(out[None], unembedding).numpy()
    assert float(found.skew[24 + 3]) == pytest.approx(scipy.stats.skew(cosine), rel=1e-6)
    assert float(found.kurtosis[24 + 3]) == pytest.approx(scipy.stats.kurtosis(cosine, fisher=False), rel=1e-6)
    assert not bool((found.prediction & found.suppression).any())


def silent_decoder():
    """A decoder with one neuron whose output no logit sees, and which is long."""
    model = decoder()
    with torch.no_grad():
        model.norm.bias.zero_()
        model.head.bias.zero_()
        direction = torch.eye(16)[0] - 1 / 16
        weights = model.head.weight
        weights -= torch.outer(weights @ direction, direction) / direction.square().sum()
        model.layers[1].linear2.weight[:, 5] = 3 * direction
    return model


def test_a_silent_long_neuron_sets_the_confidence_only():
    model = silent_decoder()
    roles = neuron_roles(model)
    assert int(roles.entropy_score.argmax()) == 24 + 5
    data = tokens()
    curve = intervene(model, {"layers.1.linear2:input": [5]}, data, "fix", (0.0, 3.0, 6.0, 12.0))
    assert bool((curve.entropy[1:].diff() > 0).all())
    assert bool((curve.scale[1:].diff() > 0).all())
    assert torch.allclose(curve.rank[1:], curve.rank[1], atol=1e-6)


def test_interventions_do_what_they_say_and_leave_no_trace():
    model, data = decoder(), tokens()
    layer = {"layers.0.linear2:input": [2, 4]}
    one, same = intervene(model, layer, data, "scale", (1.0,)), intervene(model, layer, data, "zero")
    assert torch.allclose(one.loss[0], one.loss[1], atol=1e-6)
    assert torch.allclose(intervene(model, layer, data, "fix", (0.0,)).loss, same.loss)
    removed = copy.deepcopy(model)
    with torch.no_grad():
        removed.layers[0].linear2.weight[:, [2, 4]] = 0
    with held(model, layer, "zero", 0.0):
        assert torch.allclose(model.eval()(data[0]), removed.eval()(data[0]), atol=1e-5)
    assert torch.equal(model(data[0]), decoder().eval()(data[0]))
    logits = torch.cat([model(b)[:, :-1].flatten(0, 1) for b in data])
    targets = torch.cat([b[:, 1:].flatten() for b in data])
    assert float(one.loss[0]) == pytest.approx(float(nn.functional.cross_entropy(logits, targets)), rel=1e-5)


@pytest.mark.parametrize(
    ("neurons", "sentence"),
    [({}, "at least one"), ({"layers.0.linear2:input": [99]}, "24 neurons"), ({"layer": [1]}, "no layer 'layer'")],
)
def test_wrong_neurons_are_named(neurons, sentence):
    with pytest.raises(ValueError, match=sentence):
        intervene(decoder(), neurons, tokens())


def test_a_neuron_made_to_switch_a_head_off_is_found_and_does():
    model = decoder()
    attention = model.layers[1].self_attn
    with torch.no_grad():
        kept = []
        handle = model.layers[1].norm1.register_forward_hook(lambda _, __, y: kept.append(y))
        model.eval()(torch.tensor([[2]]))
        handle.remove()
        key = kept[0][0, 0] @ attention.in_proj_weight[16:32].T + attention.in_proj_bias[16:32]
        towards = attention.in_proj_weight[:8].T @ key[:8]  # query of head 0 along the first token's key
        model.layers[0].linear2.weight[:, 7] = 8 * towards / towards.norm()
        model.layers[0].linear1.bias[7] = 1.0
    found = head_deactivation(model, 2)
    neuron, layer, head = found.strongest(1)[0]
    assert (neuron, layer) == (7, 1)
    assert bool(found.scores[24:].isnan().all())
    data = [torch.cat([torch.full_like(b[:, :1], 2), b[:, 1:]], 1) for b in tokens()]
    ablated = path_ablation(model, "layers.0.linear2:input", 7, "layers.1.self_attn", head, data)
    assert float(ablated.before.mean()) > float(ablated.after.mean()) + 0.05
    assert ablated.correlation > 0
    assert "first token" in found.summary()

    weights = []
    handle = model.layers[1].self_attn.register_forward_pre_hook(
        lambda _, args, kwargs: weights.append(args), with_kwargs=True
    )
    model(data[0])
    handle.remove()
    x = weights[0][0]
    mask = nn.Transformer.generate_square_subsequent_mask(12)
    _, whole = attention(x, x, x, attn_mask=mask, average_attn_weights=False)
    one = path_ablation(model, "layers.0.linear2:input", 7, "layers.1.self_attn", 0, data[:1])
    assert torch.allclose(one.before, whole[:, 0, 1:, 0].flatten().double(), atol=1e-5)
    with pytest.raises(ValueError, match="24 neurons and 2 heads"):
        path_ablation(model, "layers.0.linear2:input", 99, "layers.1.self_attn", 0, data)
    with pytest.raises(ValueError, match="pre-norm"):
        head_deactivation(nn.Linear(2, 2), 0)


def test_results_can_be_drawn():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    model, data = decoder(), tokens()
    results = [
        excess_correlation(model, decoder(1), data), excess_correlation(model, model, data),
        neuron_statistics(model, data), neuron_roles(model),
        explain_neurons(model, data, token_features([chr(97 + i) for i in range(20)])),
        intervene(model, {"layers.0.linear2:input": [0]}, data),
    ]  # fmt: skip
    for result in results:
        figure, ax = pyplot.subplots()
        assert result.plot(ax) is ax
        figure.canvas.draw()
        pyplot.close(figure)
        assert len(result.summary()) > 20
