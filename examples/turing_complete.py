"""A Turing machine compiled to a transformer, to a Neural GPU and to a recurrent network with two stacks.

Pérez et al., 2019: On the Turing Completeness of Modern Neural Network Architectures (arXiv 1901.03429).
"""

import torch

from neurarium.theory import compile_neural_gpu, compile_stack_rnn, compile_transformer, machines

machine = machines["equal-abc"]  # words a^n b^n c^n, which no stack can tell
networks = {
    "transformer": compile_transformer(machine),
    "Neural GPU": compile_neural_gpu(machine),
    "two stacks": compile_stack_rnn(machine),
}
for word in ("aabbcc", "aabbc"):
    expected = networks["transformer"].machine.run(word)
    for name, network in networks.items():
        found = network.run(word)
        assert (found.states, found.symbols, found.moves) == (expected.states, expected.symbols, expected.moves)
        print(f"{word:8}{name:14}{found.steps} steps, {'accepted' if found.accepted else 'rejected'}")

beaver = compile_neural_gpu(machines["busy-beaver"])
for time in range(10, 60, 4):  # its tape, out of the network's own cells
    tape = beaver.run("0", time).tape
    print("".join("#" if tape.get(cell) == "1" else "." for cell in range(24)))

network = compile_transformer(machines["counter"])
trace = network.machine.run(">", 300)
for dtype in (torch.bfloat16, torch.float16, torch.float64):
    print(dtype, "goes wrong at step", network.first_error(">", trace, dtype))
