"""Autoencoders of three kinds of layers on small digits, by size of the code: error, neighbours, parameters."""

import torch

from neurarium.data import Batches, load
from neurarium.layers import GridSchedule
from neurarium.learning import Backprop
from neurarium.models import Autoencoder
from neurarium.objectives import ReconstructionBatches, reconstruction_loss
from neurarium.probes import latent_quality
from neurarium.training import fit

digits = load("digits").map_inputs(lambda x: (x.float() / 8 - 1).unsqueeze(1))
train, test = Batches(digits.train, 64, shuffle=True, seed=0), Batches(digits.test, 256)
for code in (2, 8):
    torch.manual_seed(0)
    models = {
        "kan": Autoencoder.kan((1, 8, 8), code, (16,)),
        "perceptron": Autoencoder.mlp((1, 8, 8), code, (16,)),
        "convolution": Autoencoder.conv((1, 8, 8), code, (8, 16)),
    }
    for name, model in models.items():
        moving = [GridSchedule(model, digits.train.x[:512], steps=(10, 30))] if name == "kan" else []
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        fit(Backprop(model, reconstruction_loss), ReconstructionBatches(train), optimizer, epochs=3, callbacks=moving)
        found = latent_quality(model, train, test, generator=torch.Generator().manual_seed(0))
        count = sum(p.numel() for p in model.parameters())
        print(f"code of {code}, {name}, {count} parameters: {found.summary()}")
