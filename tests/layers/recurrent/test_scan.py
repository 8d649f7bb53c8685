import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap

from neurarium.layers import cumulative_sum_product


def drawn(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64) - 0.3


def test_a_sum_by_hand():
    values, diagonals = torch.tensor([[1.0], [10.0], [100.0]]), torch.tensor([[2.0], [0.5]])
    assert cumulative_sum_product(values, diagonals).flatten().tolist() == [1 + 2 * (10 + 0.5 * 100), 60.0, 100.0]


def test_first_and_second_derivatives():
    values = drawn(5, 2, 3).requires_grad_()
    for diagonals in (drawn(4, 2, 3), drawn(4, 1, 3)):  # the second broadcasts
        pair = (values, diagonals.requires_grad_())
        assert gradcheck(cumulative_sum_product, pair)
        assert gradgradcheck(cumulative_sum_product, pair)


def test_loop_and_doubling_agree_in_value_and_gradient():
    found = []
    for parallel in (False, True):
        values, diagonals = drawn(9, 4).requires_grad_(), drawn(8, 4).requires_grad_()
        sums = cumulative_sum_product(values, diagonals, parallel=parallel)
        found.append([sums, *torch.autograd.grad(sums.square().sum(), (values, diagonals))])
    for loop, doubling in zip(*found, strict=True):
        torch.testing.assert_close(loop, doubling)


def test_a_gradient_for_each_example():
    values, diagonals = drawn(6, 4, 2), drawn(6, 3, 2)

    def loss(one, carried):
        return cumulative_sum_product(one, carried).square().sum()

    for place in ((0, 0), (0, None), (None, 0)):
        arguments = [t if p == 0 else t[0] for t, p in zip((values, diagonals), place, strict=True)]
        mapped = vmap(grad(loss, (0, 1)), place)(*arguments)
        for n in range(6):
            own = grad(loss, (0, 1))(*(t[n] if p == 0 else t for t, p in zip(arguments, place, strict=True)))
            for batched, single in zip(mapped, own, strict=True):
                torch.testing.assert_close(batched[n], single)


def test_a_direction_forward():
    values, diagonals = drawn(5, 3), drawn(4, 3)
    ways = drawn(5, 3).cos(), drawn(4, 3).sin()
    _, found = jvp(cumulative_sum_product, (values, diagonals), ways)
    step = 1e-6
    ahead, behind = (
        cumulative_sum_product(values + sign * step * ways[0], diagonals + sign * step * ways[1]) for sign in (1, -1)
    )
    torch.testing.assert_close(found, (ahead - behind) / (2 * step), rtol=1e-7, atol=1e-8)


def test_no_steps_add_up_to_nothing():
    assert cumulative_sum_product(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0, 3)
    assert cumulative_sum_product(torch.zeros(0, 3)).shape == (0, 3)
