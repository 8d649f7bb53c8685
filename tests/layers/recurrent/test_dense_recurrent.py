"""Dense recurrent networks: sizes as published, torch's layers, a loop over steps, padding, direct paths."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from neurarium.layers import DenseRecurrent

DOUBLE = {"dtype": torch.float64}


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **DOUBLE)


def made(*args, **options) -> DenseRecurrent:
    torch.manual_seed(0)
    return DenseRecurrent(*args, **{**DOUBLE, **options})


@pytest.mark.parametrize(
    ("layers", "size", "top", "weights"),
    [(5, 40, 100, 1_442_400), (10, 20, 100, 1_442_400), (20, 10, 100, 1_442_400), (0, 1, 300, 1_442_400),
     (15, 13, 100, 1_406_560)],
)  # fmt: skip
def test_the_papers_networks_have_equal_sizes(layers: int, size: int, top: int, weights: int) -> None:
    with torch.device("meta"):
        model = DenseRecurrent(300, size, layers, top)
    second_biases = 8 * (layers * size + top)  # torch has two bias vectors for every gate, the paper one
    assert sum(p.numel() for p in model.parameters()) == weights + second_biases
    if layers:
        total = weights + second_biases
        assert DenseRecurrent.budget(300, total, layers, top) == size
        assert DenseRecurrent.budget(300, total - 1, layers, top) == size - 1


def test_the_top_layer_alone_is_torchs_layer() -> None:
    model, x = made(6, 1, 0, 5), draws(3, 4, 6)
    peer = nn.LSTM(6, 5, batch_first=True, bidirectional=True, **DOUBLE)
    peer.load_state_dict(model.layers[0].state_dict())
    assert torch.equal(model(x)[0], peer(x)[0])
    assert model.output_size == 10


@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("tanh", nn.RNN)])
def test_stacked_is_torchs_stack(cell, kind) -> None:
    model, x = made(6, 4, 3, cell=cell, connection="stacked"), draws(3, 5, 6)
    peer = kind(6, 4, 3, batch_first=True, bidirectional=True, **DOUBLE)
    peer.load_state_dict({name.replace("l0", f"l{layer}"): value for layer in range(3)
                          for name, value in model.layers[layer].state_dict().items()})  # fmt: skip
    lengths = torch.tensor([2, 5, 3])
    packed = pack_padded_sequence(x, lengths, True, enforce_sorted=False)
    expected = pad_packed_sequence(peer(packed)[0], True)[0]
    torch.testing.assert_close(model(x, lengths)[0], expected)


@pytest.mark.parametrize("cell", ["lstm", "gru", "tanh"])
def test_it_is_the_loop_over_steps(cell: str) -> None:
    model, x = made(3, 2, 2, 4, cell=cell), draws(1, 4, 3)
    seen = x[0].numpy()
    for layer in model.layers:
        weights = {name: p.detach().numpy() for name, p in layer.named_parameters()}
        forward = loop(seen, weights, "", cell)
        backward = loop(seen[::-1], weights, "_reverse", cell)[::-1]
        last = np.concatenate([forward, backward], 1)
        seen = np.concatenate([seen, last], 1)
    np.testing.assert_allclose(model(x)[0][0].detach().numpy(), last, atol=1e-12)


def loop(x: np.ndarray, weights: dict, suffix: str, cell: str) -> np.ndarray:
    """One direction of one layer."""
    w, r, b, c = (weights[f"{name}_l0{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    size = r.shape[1]
    h, memory, states = np.zeros(size), np.zeros(size), []

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    for step in x:
        given, kept = w @ step + b, r @ h + c
        if cell == "tanh":
            h = np.tanh(given + kept)
        elif cell == "gru":
            reset, update = (sigmoid(part) for part in np.split((given + kept)[: 2 * size], 2))
            new = np.tanh(given[2 * size :] + reset * kept[2 * size :])
            h = (1 - update) * new + update * h
        else:
            i, f, g, o = np.split(given + kept, 4)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(memory)
        states.append(h)
    return np.stack(states)


@pytest.mark.parametrize("connection", ["dense", "stacked", "residual"])
def test_padding_company_and_packing_change_nothing(connection) -> None:
    model, x, lengths = made(5, 3, 3, 4, connection=connection), draws(4, 6, 5), torch.tensor([3, 6, 1, 4])
    output, states = model(x, lengths)
    padded = torch.cat([x, 1e3 * torch.ones(4, 5, 5, **DOUBLE)], 1)
    wide, wide_states = model(padded, lengths)
    assert not wide[:, 6:].any()
    torch.testing.assert_close(wide[:, :6], output)
    torch.testing.assert_close(wide_states, states)
    for row, length in enumerate(lengths):
        alone, _ = model(x[row : row + 1, :length])
        torch.testing.assert_close(output[row, :length], alone[0])
        assert not output[row, length:].any()
    packed, _ = model(pack_padded_sequence(x, lengths, True, enforce_sorted=False))
    torch.testing.assert_close(pad_packed_sequence(packed, True)[0], output)


def test_layers_read_what_lies_below() -> None:
    model, x = made(5, [2, 3, 4], 3, 6), draws(2, 4, 5)
    assert [layer.input_size for layer in model.layers] == [5, 9, 15, 23]
    outputs = model.layer_outputs(x)
    assert [o.shape[2] for o in outputs] == [4, 6, 8, 12]
    torch.testing.assert_close(outputs[3], model.layers[3](torch.cat([x, *outputs[:3]], 2))[0])
    open_ended = made(5, [2, 3], 2)
    everything = torch.cat([x, *open_ended.layer_outputs(x)], 2)
    torch.testing.assert_close(open_ended(x)[0], everything)
    assert open_ended.output_size == everything.shape[2] == 15


def test_dense_without_the_older_columns_is_stacked() -> None:
    dense, stacked = made(5, 3, 3, 4), made(5, 3, 3, 4, connection="stacked")
    with torch.no_grad():
        for number, (wide, narrow) in enumerate(zip(dense.layers, stacked.layers, strict=True)):
            for name, weight in narrow.named_parameters():
                of = wide.get_parameter(name)
                if "weight_ih" in name and number:
                    of.zero_()
                    of[:, -weight.shape[1] :] = weight
                else:
                    of.copy_(weight)
    x, lengths = draws(3, 6, 5), torch.tensor([6, 2, 4])
    torch.testing.assert_close(dense(x, lengths)[0], stacked(x, lengths)[0])


def test_the_first_layer_has_a_direct_path_to_the_top() -> None:
    for connection, reached in (("dense", True), ("stacked", False)):
        model = made(5, 3, 3, 4, connection=connection)
        with torch.no_grad():
            for layer in model.layers[1:3]:  # nothing goes through the layers between
                for name, weight in layer.named_parameters():
                    if "weight_ih" in name:
                        weight.zero_()
        model(draws(2, 4, 5))[0].square().sum().backward()
        assert bool(model.layers[0].weight_ih_l0.grad.any()) == reached


def test_residual_layers_add_what_they_read() -> None:
    model, x = made(5, 3, 3, connection="residual"), draws(2, 4, 5)
    first = model.layers[0](x)[0]
    second = first + model.layers[1](first)[0]
    third = second + model.layers[2](second)[0]
    torch.testing.assert_close(model(x)[0], third)


def test_initial_states_go_to_their_layers() -> None:
    model, x = made(5, 3, 2, 4, bidirectional=False), draws(2, 7, 5)
    whole, _ = model(x)
    first, states = model(x[:, :3])
    second, _ = model(x[:, 3:], hx=states)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    along = made(5, 3, 2, 4, bidirectional=False, batch_first=False)
    along.load_state_dict(model.state_dict())
    torch.testing.assert_close(along(x.transpose(0, 1))[0], whole.transpose(0, 1))


def test_dropout_is_between_layers_alone() -> None:
    model, x = made(5, 30, 1, 4, dropout=0.5), draws(2, 4, 5)
    torch.testing.assert_close(model.eval()(x)[0], made(5, 30, 1, 4)(x)[0])
    given = {}
    model.layers[1].register_forward_pre_hook(lambda m, args: given.update(x=args[0]))
    model.train()(x)
    torch.testing.assert_close(given["x"][..., :5], x, msg="the input itself is not dropped")
    assert 0.3 < float((given["x"][..., 5:] == 0).double().mean()) < 0.7


def test_bad_arguments_are_refused_in_one_sentence() -> None:
    model = made(5, 3, 2, 4)
    with pytest.raises(ValueError, match=r"lengths must be 2 numbers from 1 to 4, not \[0, 3\]"):
        model(draws(2, 4, 5), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match=r"lengths must be 2 numbers from 1 to 4"):
        model(draws(2, 4, 5), torch.tensor([5, 3]))
    with pytest.raises(ValueError, match="x must be"):
        model(draws(2, 4, 6))
    with pytest.raises(ValueError, match="initial state for each of 3 layers, not 1"):
        model(draws(2, 4, 5), hx=[None])
    with pytest.raises(ValueError, match="2 layers need at least"):
        DenseRecurrent.budget(300, 1000, 2, 100)
    with pytest.raises(ValueError, match="there must be a layer"):
        DenseRecurrent(5, 3, 0)
    with pytest.raises(ValueError, match="residual layers must be of one width"):
        DenseRecurrent(5, [3, 4], 2, connection="residual")
    with pytest.raises(ValueError, match="connection one of"):
        DenseRecurrent(5, 3, connection="denze")
