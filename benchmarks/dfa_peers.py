"""Direct feedback alignment against BioTorch's: the same gradients and alignment angle, and the time of a step.

    pip install --no-deps biotorch==0.0.16; python benchmarks/dfa_peers.py

(BioTorch's dependencies, Jupyter and torchvision among them, are not needed here.) BioTorch replaces each layer by one
of its own, whose feedback matrix belongs to the layer above the point where the error enters. Given the same weights
and matrices both must assign the same gradients. At the last hidden layer the true error is the output weights' row
where the signal is the feedback's, so our alignment must be the cosine of the two. Times are medians over interleaved
repetitions, in processor time.
"""

from __future__ import annotations

import copy
import sys
import time
from statistics import median

import torch
from torch.nn.functional import cross_entropy

from neurarium.learning import Backprop, DirectFeedbackAlignment
from neurarium.models import plain_mlp
from neurarium.probes import alignment

DEPTH, WIDTH, BATCH, REPETITIONS = 3, 512, 128, 40


def main() -> None:
    """Print the largest difference of the gradients, both angles, and times relative to backpropagation."""
    try:
        from biotorch.layers.metrics import compute_matrix_angle
        from biotorch.module.biomodule import BioModule
    except ImportError as error:
        sys.exit(f"needs BioTorch: pip install --no-deps biotorch==0.0.16 ({error})")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x, y = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    model = plain_mlp(784, 10, width=WIDTH, depth=DEPTH)
    peer = BioModule(copy.deepcopy(model), mode="dfa", copy_weights=True, output_dim=10)
    rule = DirectFeedbackAlignment(model, cross_entropy, feedback="independent", normalize=False)
    rule.assign_credit(x, y)  # draws the matrix
    theirs = [module for module in peer.modules() if hasattr(module, "weight_backward")]
    assert rule.feedback_matrix is not None
    rule.feedback_matrix = torch.cat([layer.weight_backward.detach() for layer in theirs[1:]], 1)

    def peer_step() -> None:
        output = peer(x, y, cross_entropy)
        cross_entropy(output, y).backward()

    model.zero_grad()
    rule.assign_credit(x, y)
    peer_step()
    mine = [p.grad for p in model.parameters()]
    others = [p.grad for p in peer.parameters() if p.requires_grad]
    apart = max(float((a - b).norm() / a.norm()) for a, b in zip(mine, others, strict=True))
    print(f"gradients: {len(mine)} tensors, largest relative difference {apart:.1e}")

    # A loss of one output alone has a unit error, so the signal is a row of the feedback: cosines row by row.
    unit = DirectFeedbackAlignment(
        model, lambda output, target: output.gather(1, target[:, None]).sum(), blocks=[str(2 * DEPTH - 1)],
        normalize=False,
    )  # fmt: skip
    unit.feedback_matrix = feedback = theirs[-1].weight_backward.detach()
    readout = model[-1].weight.detach()
    told = alignment(unit, x[:10], torch.arange(10))
    cosines = torch.cosine_similarity(feedback, readout, dim=1)
    print(
        f"last hidden layer: mean cosine of the signals {told.mean[0]:.6f}, of BioTorch's matrix and the output "
        f"weights {float(cosines.mean()):.6f}; its angle over all rows is "
        f"{float(compute_matrix_angle(feedback, readout)):.2f} degrees"
    )

    steps = {
        "backprop": lambda: Backprop(model, cross_entropy).assign_credit(x, y),
        "neurarium": lambda: rule.assign_credit(x, y),
        "biotorch": peer_step,
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for repeat in range(REPETITIONS + 3):
        for name, step in steps.items():
            start = time.process_time()
            step()
            if repeat >= 3:
                times[name].append(time.process_time() - start)
    seconds = {name: median(values) for name, values in times.items()}
    for name, value in seconds.items():
        print(f"{name:10} {1e3 * value:6.2f} ms   {value / seconds['backprop']:.2f} x backprop")


if __name__ == "__main__":
    main()
