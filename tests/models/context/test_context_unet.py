"""Context U-Net: what order, number and absence of examples mean, its parameters, sizes, and one task by heart."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurarium.data import EpisodeSampler, ImageTask, ellipsoid_template, synthetic_subjects
from neurarium.layers import PairwiseConvAvg
from neurarium.models import ContextUNet
from neurarium.objectives import imaging_loss


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def unet(*args, **options) -> ContextUNet:
    torch.manual_seed(0)
    return ContextUNet(*args, **options).eval()


def given(examples: int = 3, size: tuple[int, ...] = (8, 12)) -> tuple[Tensor, Tensor, Tensor]:
    return drawn(2, 1, *size), drawn(2, examples, 1, *size, seed=1), drawn(2, examples, 2, *size, seed=2)


def test_order_and_repetition_of_the_examples_do_not_matter() -> None:
    model, (x, a, b) = unet(1, 2, 6, 3), given()
    expected = model(x, a, b)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(model(x, a[:, order], b[:, order]), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        model(x, a.repeat(1, 2, 1, 1, 1), b.repeat(1, 2, 1, 1, 1)), expected, atol=1e-6, rtol=1e-5
    )
    torch.testing.assert_close(model(x, a, b, chunk=2), expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(model(x, a, 1 - b), expected)


@pytest.mark.parametrize("dim", [2, 3])
def test_a_block_is_the_mean_over_pairs_formed_one_by_one(dim: int) -> None:
    torch.manual_seed(0)
    block, space = PairwiseConvAvg(4, dim=dim), (6, 5, 4)[:dim]
    u, v = drawn(2, 3, 4, *space), drawn(2, 4, *space, seed=1)
    target = block.target_unit(v)
    members = [block.context_unit(u[:, n]) for n in range(3)]
    pairs = [torch.cat((member, target), 1) for member in members]
    found_u, found_v = block(u, v)
    torch.testing.assert_close(found_v, F.gelu(target + sum(block.to_target(pair) for pair in pairs) / 3))
    for n, (member, pair) in enumerate(zip(members, pairs, strict=True)):
        torch.testing.assert_close(found_u[:, n], F.gelu(member + block.to_context(pair)))


def test_without_what_the_target_hears_it_is_the_plain_network() -> None:
    model, plain, (x, a, b) = unet(1, 2, 6, 3), unet(1, 2, 6, 3, context=False), given()
    for block in (*model.encoder, *model.decoder):
        nn.init.zeros_(block.to_target.weight)
        nn.init.zeros_(block.to_target.bias)
    state = model.state_dict()
    plain.load_state_dict({name: state[name] if name in state else state[_inside(name)] for name in plain.state_dict()})
    torch.testing.assert_close(model(x, a, b), plain(x))
    torch.testing.assert_close(model(x, 1 - a, b), plain(x))


def _inside(name: str) -> str:
    """encoder.0.convs... of the plain network -> encoder.0.target_unit.convs..."""
    part, number, rest = name.split(".", 2)
    return f"{part}.{number}.target_unit.{rest}"


def test_parameters_are_those_of_the_release() -> None:
    def count(module: nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(PairwiseConvAvg(64)) == 4 * (9 * 64 * 64 + 64) + 2 * (2 * 64 * 64 + 64) == 164_224
    model = ContextUNet(3, 2, 64, 4)
    assert count(model.embed_target) == 3 * 64 + 64
    assert count(model.embed_context) == (3 + 2) * 64 + 64
    blocks = 7 * 164_224 + 3 * 2 * (128 * 64 + 64)
    head = 2 * (9 * 64 * 64 + 64) + 64 * 2 + 2
    assert count(model) == blocks + head + count(model.embed_target) + count(model.embed_context)


@pytest.mark.parametrize("size", [(7, 9), (8, 8), (13, 4)])
def test_every_size_comes_back(size: tuple[int, int]) -> None:
    model, (x, a, b) = unet(1, 2, 4, 3), given(1, size)
    assert model(x, a, b).shape == (2, 2, *size)
    if size != (8, 8):
        wide = [F.pad(t, (0, -size[1] % 4, 0, -size[0] % 4)) for t in (x, a, b)]
        torch.testing.assert_close(model(x, a, b), model(*wide)[..., : size[0], : size[1]])


def test_a_volume_of_one_slice_is_the_image_where_kernels_have_one() -> None:
    flat, deep, (x, a, b) = unet(1, 2, 4, 1), unet(1, 2, 4, 1, dim=3), given()
    state = deep.state_dict()
    for name, value in flat.state_dict().items():
        if value.dim() == 4:
            state[name].zero_()
            state[name][:, :, state[name].shape[2] // 2] = value
        else:
            state[name].copy_(value)
    deep.load_state_dict(state)
    found = deep(x[:, :, None], a[:, :, :, None], b[:, :, :, None])
    torch.testing.assert_close(found[:, :, 0], flat(x, a, b), atol=1e-6, rtol=1e-5)


def test_the_identity_is_learned() -> None:
    generator = torch.Generator().manual_seed(0)
    subjects = synthetic_subjects(ellipsoid_template(12), 40, generator=generator)
    same = {"same": ImageTask(lambda subjects, generator: (subjects.images, subjects.images))}
    sampler = EpisodeSampler(subjects, same, context=(1, 1), batch=4, modalities=0, generator=generator)
    torch.manual_seed(0)
    model = ContextUNet(1, 1, 8, 1)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 151)
        episode = sampler.draw()
        optimizer.zero_grad()
        loss = imaging_loss(
            model(episode.target_in, episode.context_in, episode.context_out), episode.target_out, episode.masks
        )
        loss.backward()
        optimizer.step()
    episode = sampler.draw()
    error = (model(episode.target_in, episode.context_in, episode.context_out) - episode.target_out).square().mean()
    assert float(-10 * error.detach().log10()) > 30


def test_predictions_need_one_set_of_examples() -> None:
    model, (x, a, b) = unet(1, 2, 4, 2).train(), given()
    found = model.predict(x, (a[0], b[0]), mask=True)
    expected = model(x, a[:1].expand(2, -1, -1, -1, -1), b[:1].expand(2, -1, -1, -1, -1)).sigmoid()
    torch.testing.assert_close(found, expected)
    assert model.training
    assert ((model.predict(x, (a[0], b[0])) >= 0) & (model.predict(x, (a[0], b[0])) <= 1)).all()


def test_errors_say_what_is_wrong() -> None:
    model, (x, a, b) = unet(1, 2, 4, 2), given()
    with pytest.raises(ValueError, match="an example at least"):
        model(x)
    with pytest.raises(ValueError, match="an example at least"):
        model(x, a[:, :0], b[:, :0])
    with pytest.raises(ValueError, match="the target's size"):
        model(drawn(2, 1, 8, 8), a, b)
    with pytest.raises(ValueError, match="inputs of examples"):
        model(x, a[:, :2], b)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        model.predict(255 * x, (a[0], b[0]))
    with pytest.raises(ValueError, match="without context"):
        unet(1, 2, 4, 2, context=False)(x, a, b)
    with pytest.raises(ValueError, match="dim"):
        ContextUNet(1, 1, dim=4)
