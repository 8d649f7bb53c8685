"""ResMLP: published sizes and costs, what patches may change, weights from elsewhere, other sizes of image."""

import pytest
import torch
from torch import nn

from neurarium.layers import CrossPatch
from neurarium.models import (
    ResMLP,
    load_released_resmlp,
    resize_patches,
    resmlp_b24,
    resmlp_s12,
    resmlp_s24,
    resmlp_s36,
)  # fmt: skip
from neurarium.objectives import hard_distillation_loss
from neurarium.probes import class_activation, convolution_traffic, mixing_locality


@pytest.mark.parametrize(
    ("make", "parameters", "cost"),
    [
        (resmlp_s12, 15_350_872, 3.010), (resmlp_s24, 30_020_680, 5.961), (resmlp_s36, 44_690_488, 8.913),
        (resmlp_b24, 129_138_280, 100.231),
    ],
)  # fmt: skip
def test_sizes_and_costs_are_the_published_ones(make, parameters, cost):
    with torch.device("meta"):
        model, image = make(), torch.zeros(1, 3, 224, 224)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert convolution_traffic(model, image).total_multiply_adds / 1e9 == pytest.approx(cost, abs=5e-4)


def small(**options):
    torch.manual_seed(0)
    return ResMLP(12, 4, 3, 5, 8, 2, **{"init_std": None} | options).eval()


def moved(x, order):
    """The image with its 9 patches in another order."""
    patches = nn.functional.unfold(x, 4, stride=4)[:, :, order]
    return nn.functional.fold(patches, (12, 12), 4, stride=4)


def test_without_the_layer_across_patches_their_order_is_not_seen():
    x, order = torch.randn(2, 3, 12, 12), torch.randperm(9)
    blind, seeing = small(mixing="none"), small()
    torch.testing.assert_close(blind(moved(x, order)), blind(x))
    assert not torch.allclose(seeing(moved(x, order)), seeing(x))
    for module in seeing.modules():
        if isinstance(module, CrossPatch):
            module.bias.data.normal_()
    expected = seeing(x)
    for module in seeing.modules():
        if isinstance(module, CrossPatch):
            module.weight.data = module.weight.data[order][:, order]
            module.bias.data = module.bias.data[order]
    torch.testing.assert_close(seeing(moved(x, order)), expected)


def test_with_a_scale_of_zero_it_is_a_linear_classifier_of_the_mean_patch():
    model, x = small(init_scale=0.0), torch.randn(2, 3, 12, 12)
    torch.testing.assert_close(model(x), model.head(model.embed(x).flatten(2).mean(2)))


def test_activation_maps_of_patches_add_up():
    model, x = small(), torch.randn(2, 3, 12, 12)
    found = class_activation(model, x)
    assert found.maps.shape == (2, 5, 9)
    torch.testing.assert_close(found.maps.mean(2) + found.bias, model(x), rtol=0, atol=1e-6)


def test_class_pooling_and_refusals():
    assert small(pooling="class")(torch.randn(2, 3, 12, 12)).shape == (2, 5)
    with pytest.raises(ValueError, match="12 x 12 images, not of 16 x 12"):
        small()(torch.randn(1, 3, 16, 12))
    with pytest.raises(ValueError, match="multiple of patch_size"):
        ResMLP(13, 4)
    with pytest.raises(ValueError, match="average over patches"):
        resize_patches(small(pooling="class"), 16)


def test_another_size_of_image_keeps_what_a_row_reads():
    model = small()
    for module in model.modules():
        if isinstance(module, CrossPatch):
            nn.init.constant_(module.weight, 1 / 9)
    larger = resize_patches(model, 24)
    assert larger(torch.randn(2, 3, 24, 24)).shape == (2, 5)
    matrix = next(m.weight for m in larger.modules() if isinstance(m, CrossPatch))
    torch.testing.assert_close(matrix.sum(1), torch.ones(36))
    even = torch.ones(1, 3, 12, 12)
    torch.testing.assert_close(larger(torch.ones(1, 3, 24, 24)), model(even))
    torch.testing.assert_close(resize_patches(model, 12)(even), model(even))


@pytest.mark.parametrize("timm", [False, True])
def test_released_weights_find_their_places(timm):
    torch.manual_seed(1)
    source, target, x = small(), small(), torch.randn(2, 3, 12, 12)
    names = {
        "blocks.{}.0.branch.0.weight": "norm1.alpha", "blocks.{}.0.branch.0.bias": "norm1.beta",
        "blocks.{}.0.branch.1": "linear_tokens" if timm else "attn",
        "blocks.{}.0.branch.2.weight": "ls1" if timm else "gamma_1",
        "blocks.{}.1.branch.0.weight": "norm2.alpha", "blocks.{}.1.branch.0.bias": "norm2.beta",
        "blocks.{}.1.branch.1": "mlp_channels.fc1" if timm else "mlp.fc1",
        "blocks.{}.1.branch.3": "mlp_channels.fc2" if timm else "mlp.fc2",
        "blocks.{}.1.branch.4.weight": "ls2" if timm else "gamma_2",
    }  # fmt: skip
    state = {}
    for name, tensor in source.state_dict().items():
        tensor = tensor + torch.randn_like(tensor) if tensor.is_floating_point() else tensor
        source.state_dict()[name].copy_(tensor)
        for index in range(2):
            for ours, theirs in names.items():
                if name.startswith(ours.format(index)):
                    name = name.replace(ours.format(index), f"blocks.{index}.{theirs}")
        name = name.replace("embed.", "stem.proj." if timm else "patch_embed.proj.")
        name = name.replace("norm.weight", "norm.alpha").replace("norm.bias", "norm.beta")
        state[name] = tensor.reshape(1, 1, -1) if "norm" in name else tensor
    torch.testing.assert_close(load_released_resmlp(target, state)(x), source(x))
    with pytest.raises(ValueError, match="lack"):
        load_released_resmlp(target, {k: v for k, v in state.items() if "norm1" not in k})
    with pytest.raises(ValueError, match="no place"):
        load_released_resmlp(target, state | {"extra.weight": torch.zeros(2)})


def test_locality_is_one_where_weights_are_equal_and_large_where_patches_read_themselves():
    model = small()
    layers = [m for m in model.modules() if isinstance(m, CrossPatch)]
    nn.init.constant_(layers[0].weight, -0.3)
    nn.init.eye_(layers[1].weight)
    found = mixing_locality(model)
    even, own = found.by_distance.values()
    torch.testing.assert_close(even, torch.ones(3))
    torch.testing.assert_close(own, torch.tensor([9.0, 0.0, 0.0]))
    assert list(found.small.values()) == [0.0, pytest.approx(8 / 9)]
    assert found.local == pytest.approx((1 + 4.5) / 2)
    with pytest.raises(ValueError, match="no CrossPatch"):
        mixing_locality(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="8 patches, which form no square"):
        mixing_locality(CrossPatch(8))


def test_hard_distillation_in_its_limits():
    logits, teacher, y = torch.randn(6, 4), torch.randn(6, 4), torch.randint(4, (6,))
    plain = nn.functional.cross_entropy(logits, y)
    torch.testing.assert_close(hard_distillation_loss(logits, teacher, y, weight=0.0), plain)
    sure = nn.functional.one_hot(y, 4).float()
    torch.testing.assert_close(hard_distillation_loss(logits, sure, y), plain)
    taught = nn.functional.cross_entropy(logits, teacher.argmax(1))
    torch.testing.assert_close(hard_distillation_loss(logits, teacher, y, weight=0.3), 0.7 * plain + 0.3 * taught)
    with pytest.raises(ValueError, match="weight must be"):
        hard_distillation_loss(logits, teacher, y, weight=1.5)
