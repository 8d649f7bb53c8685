"""Will my rare classes survive this weight decay? Predict it, then watch gradient descent agree."""

import torch

from neurarium.theory import DeepLinearUFM, collapse_geometry

COUNTS, DEPTH = (40, 20, 10, 2), 2

for decay in (2e-3, 1e-2):
    expected = collapse_geometry(COUNTS, decay, decay, DEPTH)
    print(f"decay {decay}: {expected.summary()}")
    model = DeepLinearUFM(COUNTS, decay, decay, DEPTH, features=8, generator=torch.Generator().manual_seed(0))
    loss = model.minimise()
    lengths = model.class_means().norm(dim=0).tolist()
    print(f"  descent found {loss:.6g}; lengths of the class means:", [round(length, 3) for length in lengths])
