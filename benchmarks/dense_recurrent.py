"""A dense recurrent network against the sum of its layers' own time, and packed sequences against padded ones.

python benchmarks/dense_recurrent.py
"""

import time

import torch

from neurarium.layers import DenseRecurrent

torch.set_num_threads(1)
torch.manual_seed(0)


def seconds(function, repeats: int = 7) -> float:
    """Processor seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)


model = DenseRecurrent(300, 10, 10)
x, lengths = torch.randn(100, 40, 300), torch.randint(5, 16, (100,))
parts = [torch.randn(100, 40, layer.input_size) for layer in model.layers]
whole = seconds(lambda: model(x)[0].sum().backward())
layers = seconds(lambda: [layer(part)[0].sum().backward() for layer, part in zip(model.layers, parts, strict=True)])
packed = seconds(lambda: model(x, lengths)[0].sum().backward())
print(f"10 dense layers of 10 units, 100 sequences of 40 steps, a step: {whole * 1e3:.0f} ms")
print(f"its layers alone take {layers / whole:.2f} of that; with true lengths of 5 to 15 it takes {packed / whole:.2f}")
