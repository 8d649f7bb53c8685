"""The universal machine: programs worked out by hand, lockstep against one by one, shortening, priors."""

import math

import pytest
import torch

from neurarium.data import BrainPhoque, DataError, MarkovPrior, UniformPrior

MACHINE = BrainPhoque(9, 10, 100)


@pytest.mark.parametrize(
    ("program", "output", "steps", "status", "stored"),
    [
        ("+[.+]", (1, 2, 3, 4, 5, 6, 7, 8), 34, "halted", "+[.+]"),
        (".+.+.", (0, 1, 2), 5, "halted", ".+.+."),
        ("[.]+.", (0, 1), 5, "halted", "{.]+."),
        ("++[.-]>.", (2, 1, 0), 13, "halted", "++[.-]>."),
        ("+[.]", (1,) * 33, 100, "timeout", "+[.]"),
        ("<.-.", (0, 8), 4, "halted", "<.-."),
        ("", (), 0, "halted", ""),
    ],
)
def test_programs_by_hand(program, output, steps, status, stored):
    run = MACHINE.run(program)
    assert (run.output[: len(output)], run.steps, run.status, run.program) == (output, steps, status, stored)


def test_a_body_that_is_entered_later_is_written_at_the_end():
    # Cell b is 0 at the inner bracket: what follows the loop, "+<]", is written next to it. In the second round b is 1:
    # the body ".-]" comes next. b is 0 again, so "+<]" as it stands; in the third round ".-]" as it stands, and so on.
    run = BrainPhoque(9, 10, 60).run("+[>[+<].-]")
    assert run.program == "+[>{+<].-]"
    assert set(run.output) == {1}
    # steps: 4 to the bracket, 3 to "]", then rounds of "[ > {", ". - ]", "{", "+ < ]": 10 steps with one symbol
    assert (len(run.output), run.status) == ((60 - 7 - 4) // 10 + 1, "timeout")


def test_limits():
    assert MACHINE.run("+[.]", max_output=5).output == (1,) * 5
    assert MACHINE.run("+[.]", max_output=5).status == "output limit"
    assert BrainPhoque(2, 1, 50).run("+.+.>.").output == (1, 0, 0)


@pytest.mark.parametrize("prior", [None, MarkovPrior.fit(["+[.+]", "++[.>]", "+[>.+<.+]"])])
def test_lockstep_equals_one_by_one(prior):
    machine = BrainPhoque(5, 4, 60)
    runs = machine.sample(300, 20, torch.Generator().manual_seed(0), prior=prior, min_output=1)
    assert int(runs.mask.sum(1).min()) >= 1
    for i in range(300):
        many = runs[i]
        one = machine.run(many.program + "+" * 60, 20)  # a text that does not end
        assert (one.output, one.program, one.short_program) == (many.output, many.program, many.short_program)
        assert (one.steps, one.status) == (many.steps, many.status)
        assert runs.tokens[i, runs.mask[i]].tolist() == list(many.output)
        assert many.bound_nats == pytest.approx(-(prior or UniformPrior()).log_prob(many.short_program))


@pytest.mark.parametrize(
    ("program", "short"),
    [
        ("+[.", "+."),  # a loop that is never closed
        ("[.+", "."),  # a body that is never written, and what comes after the last symbol
        ("].", "."),  # a closing bracket without a partner
        ("+><-.", "."),  # neighbours that undo each other, and those that become neighbours by it
        ("+[.+]>+", "+[.+]"),
        ("+-", ""),
    ],
)
def test_short_programs_by_hand(program, short):
    assert MACHINE.run(program).short_program == short


def test_short_programs_print_the_same_in_no_more_steps():
    machine = BrainPhoque(5, 4, 100)
    runs = machine.sample(500, 30, torch.Generator().manual_seed(1))
    saved = 0
    for i in range(500):
        long = runs[i]
        short = machine.run(long.short_program, len(long.output))
        assert short.output == long.output
        assert short.steps <= long.steps
        saved += len(long.program) - len(long.short_program)
    assert saved > 500


def test_the_bound_is_one():
    """All programs of up to 5 tokens: those that begin with what was printed have at least the bound's probability."""
    machine = BrainPhoque(3, 2, 12)
    draw = torch.Generator().manual_seed(2)
    many = machine.sample(20_000, 4, draw, min_output=0)
    for output in [(0, 0), (0, 1), (0, 0, 0), (1,)]:
        size = len(output)
        begins = (many.tokens[:, :size] == torch.tensor(output)).all(1) & many.mask[:, size - 1]
        share = float(begins.sum()) / many.drawn
        bounds = [many[int(i)] for i in begins.nonzero()[:40]]
        best = max(
            math.exp(-machine.run(run.short_program, size).bound_nats) for run in bounds if len(run.output) == size
        )
        assert best <= share + 4 * math.sqrt(share / many.drawn)


def test_shares_of_programs_are_counted():
    runs = BrainPhoque(5, 4, 60).sample(50, 20, torch.Generator().manual_seed(0))
    assert len(runs) == 50 <= runs.drawn
    assert int(runs.mask.sum(1).min()) >= 8
    assert bool((runs.tokens[~runs.mask] == 0).all())
    again = BrainPhoque(5, 4, 60).sample(50, 20, torch.Generator().manual_seed(0))
    assert torch.equal(again.tokens, runs.tokens)
    assert runs.bounds().shape == (50,)


def test_markov_prior_counts():
    prior = MarkovPrior.fit(["+[.]", "+[{]"], pseudo_count=0.5)
    # after "+[" came "." once and a bracket once
    assert prior.log_prob("+[.") == pytest.approx(math.log(2.5 / 5.5) + math.log(2.5 / 5.5) + math.log(1.5 / 5.5))
    drawn = prior.sample(4000, 2, torch.Generator().manual_seed(0))
    assert float((drawn[:, 0] == 0).double().mean()) == pytest.approx(2.5 / 5.5, abs=0.03)
    assert UniformPrior().log_prob("+[.]") == pytest.approx(-4 * math.log(7))


def test_refusals():
    with pytest.raises(DataError, match="'x' at place 2"):
        MACHINE.run("+.x")
    with pytest.raises(DataError, match="alphabet"):
        BrainPhoque(1)
    with pytest.raises(DataError, match="memory"):
        BrainPhoque(5, 0)
    with pytest.raises(DataError, match="min_output"):
        MACHINE.sample(1, 4, torch.Generator(), min_output=5)
    with pytest.raises(DataError, match="count and length"):
        MACHINE.sample(0, 9, torch.Generator())
    with pytest.raises(DataError, match="programs must hold"):
        MarkovPrior.fit([])
