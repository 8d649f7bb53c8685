"""Can a network find pixels of turned digits better when it may bend its maps, and bend them back?"""

import torch
from torch import nn
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from neurarium.data import load
from neurarium.layers import conv_norm_act, insert_dense_transformer
from neurarium.probes import segmentation_scores, warp_summary
from neurarium.training import evaluation

torch.manual_seed(0)
digits = load("digits").train
angle = (torch.rand(len(digits)) - 0.5) * 2
turn = torch.stack([angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle], 1).view(-1, 2, 3)
x = digits.x.float().view(-1, 1, 8, 8) / 16
x = grid_sample(x, affine_grid(turn, list(x.shape), align_corners=False), align_corners=False)
y = torch.where(x[:, 0] > 0.4, digits.y[:, None, None] + 1, 0)  # a class for each pixel: background, or the digit

model = nn.Sequential(  # your own network; every module in it has a name
    conv_norm_act(1, 16, 3), conv_norm_act(16, 32, 3), conv_norm_act(32, 32, 3), conv_norm_act(32, 16, 3),
    nn.Conv2d(16, 11, 1),
)  # fmt: skip
for name, network in (("plain", model), ("bent", insert_dense_transformer(model, "0", "2", x[:1], points=(3, 3)))):
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for rows in torch.arange(1000).repeat(3).split(50):
        optimizer.zero_grad()
        cross_entropy(network(x[rows]), y[rows]).backward()
        optimizer.step()
    with evaluation(network), torch.no_grad():
        print(name, "-", segmentation_scores(network(x[1000:]), y[1000:]).summary())

pair = network.get_submodule("dense_transformer.transformer")
with torch.no_grad():
    print(warp_summary(pair, network.get_submodule("0")[:3](x[1000:])).summary())
