"""A network learns to predict from what random programs print.

Grau-Moya et al., 2024: Learning Universal Predictors (arXiv 2401.14953).
"""

import torch

from neurarium.data import BrainPhoque, ContextTreeSource, SourceBatches
from neurarium.learning import Backprop
from neurarium.models import CausalTransformer, SequencePredictor
from neurarium.objectives import cumulative_log_loss
from neurarium.probes import code_length
from neurarium.theory import KT, ContextTreeWeighting
from neurarium.training import fit

machine = BrainPhoque(alphabet=5, memory=10, max_steps=100)
for program in ("+[.+]", ".+.+.", "++[.-]>."):
    print(program, "prints", *machine.run(program).output)

draw = torch.Generator().manual_seed(0)
torch.manual_seed(0)
model = SequencePredictor(CausalTransformer(6, 32, 4, 1, 64, context=32), symbols=5)  # 5 symbols and a start
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
fit(Backprop(model, cumulative_log_loss), SourceBatches(machine, 32, 60, length=32), optimizer)  # 5,000 to see it good

new = machine.sample(200, 32, draw)
print("one of them:", new[0].program, "prints", *new[0].output)
for name, predictor in {"network": model, "counting": KT(5), "context trees": ContextTreeWeighting(6, 5)}.items():
    print(f"{name}: {code_length(predictor, new.tokens, new.mask).summary()}")

trees = ContextTreeSource(3).sample(200, 64, draw)
best = code_length(ContextTreeWeighting(3), trees.tokens)
print(f"context-tree weighting costs {float(best.regret(trees.truth)[-1]):.1f} bits more than knowing the tree")
