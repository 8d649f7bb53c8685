"""BrainPhoque, a universal machine whose program is written while it runs (Grau-Moya et al., 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor

from neurarium.data._errors import DataError
from neurarium.data.sources._lockstep import Machines, run_together
from neurarium.data.sources._programs import (
    LATER,
    OPEN,
    PRINT,
    MarkovPrior,
    UniformPrior,
    decode,
    encode,
    shortened,
)
from neurarium.data.sources._sequences import Sequences, check_size

Status = Literal["halted", "timeout", "output limit"]
AT_ONCE = 16_384
"""Programs that run together: their tapes and texts take some tens of megabytes."""


@dataclass(frozen=True)
class ProgramRun:
    """What one program did.

    Args:
        output: the symbols that it printed.
        status: why it stopped: its text ended, or it reached a limit.
        steps: instructions that it executed.
        program: its text as the machine stored it, with ``{`` for a bracket whose body was left for later.
        short_program: a text that is no longer and prints the same in no more steps.
        bound_nats: minus the log-probability of the short program: no less than that of the output under the prior.
    """

    output: tuple[int, ...]
    status: Status
    steps: int
    program: str
    short_program: str
    bound_nats: float


@dataclass(frozen=True)
class ProgramRuns(Sequences):
    """What many programs printed, as sequences; item i is the `ProgramRun` of one.

    Args:
        machines: their states when they stopped.
        prior: what they were drawn from.
        drawn: programs that were run until so many had printed enough.
    """

    machines: Machines | None = None
    prior: UniformPrior | MarkovPrior = field(default_factory=UniformPrior)
    drawn: int = 0

    def __getitem__(self, i: int) -> ProgramRun:
        one = cast(Machines, self.machines).rows([i])
        size, printed = int(one.length[0]), int(one.printed[0])
        text, jumps = one.text[0, :size].tolist(), one.jumps[0, :size].tolist()
        short = shortened(text, jumps, int(one.kept[0]))
        status: Status = ("halted", "timeout", "output limit")[int(one.status[0])]
        output = tuple(one.output[0, :printed].tolist())
        return ProgramRun(output, status, int(one.steps[0]), decode(text), short, -self.prior.log_prob(short))

    def bounds(self) -> Float[Tensor, " count"]:
        """`ProgramRun.bound_nats` of all."""
        return torch.tensor([self[i].bound_nats for i in range(len(self))], dtype=torch.float64)


class BrainPhoque:
    """A universal machine of seven tokens, ``+-><[].``, on which every text is a program.

    ``+`` and ``-`` count a cell up and down, ``>`` and ``<`` move on a ring of cells, ``.`` prints the cell. Where the
    end of the text is reached the next token is sampled, and executed at once: a program of n tokens has the
    probability of these n draws. A loop ``[body]`` is entered while its cell is not 0. A body that is not entered at
    first has not been written yet: its bracket is stored as ``{``, what comes after the loop is written next to it, and
    the body at the end of the text where it is entered for the first time; and likewise what comes after a loop.

    Args:
        alphabet: values of a cell, and symbols that can be printed; 9 in the released code, 17 in the paper.
        memory: cells.
        max_steps: instructions after which a program is stopped.

    Raises:
        DataError: an alphabet below 2, or another number below 1.
    """

    def __init__(self, alphabet: int = 17, memory: int = 200, max_steps: int = 1000) -> None:
        if not 2 <= alphabet <= 256 or memory < 1 or max_steps < 1:
            raise DataError(
                f"alphabet must be 2 to 256, memory and max_steps at least 1, not {alphabet}, {memory} and {max_steps}"
            )
        self.alphabet = alphabet
        self.memory = memory
        self.max_steps = max_steps

    @property
    def symbols(self) -> int:
        """Size of the alphabet."""
        return self.alphabet

    def run(self, program: str, max_output: int | None = None) -> ProgramRun:
        """Execute a given program until its text ends.

        Args:
            program: tokens; ``{`` is read as ``[``.
            max_output: symbols after which it is stopped; without limit by default.

        Raises:
            DataError: a character is no token; names it and its place.
        """
        given = encode(program)
        text: list[int] = []
        jumps: list[int] = []
        still_open: list[int] = []
        tape = [0] * self.memory
        output: list[int] = []
        at = head = steps = kept = 0
        status: Status = "halted"
        while at < len(given):
            new = at == len(text)
            if new:
                token = given[at]
                text.append(LATER if token == OPEN and tape[head] == 0 else token)
                jumps.append(-1)
            token, end = text[at], len(text)
            follow = at + 1
            if token < OPEN:
                head = (head + (0, 0, 1, -1)[token]) % self.memory
                tape[head] = (tape[head] + (1, -1, 0, 0)[token]) % self.alphabet
            elif token == PRINT:
                output.append(tape[head])
                kept = end
            elif token == OPEN:
                if new:
                    still_open.append(at)
                elif tape[head] == 0:
                    jumps[at] = follow = end if jumps[at] < 0 else jumps[at]
            elif token == LATER:
                if not new and tape[head] != 0:
                    if jumps[at] < 0:
                        jumps[at] = end
                        still_open.append(at)
                    follow = jumps[at]
            else:
                if new:
                    jumps[at] = still_open.pop() if still_open else at
                follow = at + 1 if jumps[at] == at else jumps[at]
            at = follow
            steps += 1
            if at == len(given) or steps == self.max_steps or len(output) == max_output:
                status = "halted" if at == len(given) else "timeout" if steps == self.max_steps else "output limit"
                break
        short = shortened(text, jumps, kept)
        return ProgramRun(tuple(output), status, steps, decode(text), short, -UniformPrior().log_prob(short))

    def sample(
        self,
        count: int,
        length: int,
        generator: torch.Generator,
        *,
        prior: UniformPrior | MarkovPrior | None = None,
        min_output: int = 8,
    ) -> ProgramRuns:
        """Draw programs that print something, all of a batch running together.

        Args:
            count: how many.
            length: symbols after which a program is stopped; shorter outputs are padded and masked.
            generator: source of all draws, on the CPU.
            prior: of the tokens; all equally likely by default.
            min_output: symbols that a program must print to be kept; most uniform programs print next to nothing.

        Raises:
            DataError: a number out of range, or programs of this prior hardly ever print so much.
        """
        check_size(count, length)
        if not 0 <= min_output <= min(length, self.max_steps):
            raise DataError(f"min_output must be between 0 and length and max_steps, not {min_output}")
        chosen = prior or UniformPrior()
        parts: list[Machines] = []
        found = drawn = 0
        while found < count:
            batch = min(AT_ONCE, max(256, 2 * count)) if not found else min(AT_ONCE, _needed(count, found, drawn))
            tokens = chosen.sample(batch, self.max_steps + 1, generator)  # one more than can be used: no text ends
            done = run_together(tokens.numpy(), self.alphabet, self.memory, self.max_steps, length)
            enough = (done.printed >= min_output).nonzero()[0][: count - found]
            last = int(enough[-1]) + 1 if found + len(enough) == count else batch
            parts.append(done.rows(enough))
            found, drawn = found + len(enough), drawn + last
            if drawn > 200_000 and found < drawn * 1e-4:
                raise DataError(f"{found} of {drawn} programs printed {min_output} symbols; lower min_output")
        machines = Machines.joined(parts)
        mask = torch.arange(length) < torch.from_numpy(machines.printed)[:, None]
        return ProgramRuns(torch.from_numpy(machines.output).long(), mask, None, machines, chosen, drawn)


def _needed(count: int, found: int, drawn: int) -> int:
    """Programs to run so that the rest is found, most likely."""
    return max(256, int(1.1 * (count - found) * drawn / found))
