"""A memory network against its formulas, one word and one hop at a time; the stories it is asked about."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from neurarium.data import DataError, two_fact_stories
from neurarium.models import MemoryNetwork


def test_forward_pass_is_the_papers_formulas():
    torch.manual_seed(0)
    model = MemoryNetwork(11, width=5, hops=2, sentences=6).double()
    x = torch.randint(1, 11, (1, 4, 3))
    x[0, -1, 2] = 0  # a question of two words

    def line(which, words):
        total = torch.zeros(5, dtype=torch.float64)
        for j, word in enumerate(words.tolist(), start=1):
            for k in range(1, 6):
                weight = (1 - j / 3) - (k / 5) * (1 - 2 * j / 3)
                total[k - 1] += weight * model.words[which].weight[word, k - 1].detach() if word else 0.0
        return total

    u = line(0, x[0, -1])
    for hop in range(2):
        m, c = ([line(w, x[0, i]) + model.ages[w][2 - i].detach() for i in range(3)] for w in (hop, hop + 1))
        p = torch.stack([u @ each for each in m]).softmax(0)
        u = u + sum(weight * each for weight, each in zip(p, c))
    torch.testing.assert_close(model(x)[0], model.words[2].weight @ u)


def test_empty_lines_change_nothing_and_a_story_may_be_empty():
    torch.manual_seed(0)
    model = MemoryNetwork(11, sentences=6)
    x = torch.randint(1, 11, (2, 4, 3))
    padded = torch.cat([torch.zeros(2, 2, 3, dtype=torch.int64), x], dim=1)  # before the oldest: ages count backwards
    torch.testing.assert_close(model(padded), model(x))
    only = torch.cat([torch.zeros_like(x[:, :3]), x[:, 3:]], dim=1)
    torch.testing.assert_close(model(only), model(x[:, 3:]))
    loss = cross_entropy(model(only), torch.tensor([1, 2]))
    loss.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    with pytest.raises(ValueError, match="7 sentences, more than sentences = 6"):
        model(torch.ones(1, 8, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="hops"):
        MemoryNetwork(11, hops=0)


def test_the_answer_is_where_the_holder_went_last():
    split = two_fact_stories(200, 50, seed=1)
    words = split.classes
    for lines, answer in zip(split.train.x, split.train.y):
        holder, place = {}, {}
        for who, did, what in lines[:-1].tolist():
            if words[did] == "took":
                assert what not in holder
                holder[what] = who
            else:
                place[who] = what
        assert words[int(lines[-1, 0])] == "where"
        assert int(answer) == place[holder[int(lines[-1, 1])]]
    assert (len(split.train), len(split.test), len(split.validation)) == (200, 50, 0)
    assert torch.equal(two_fact_stories(200, 50, seed=1).test.x, split.test.x)
    assert not torch.equal(split.train.x[:50], split.test.x)
    with pytest.raises(DataError, match="places must be between 1 and 6, not 7"):
        two_fact_stories(places=7)
    with pytest.raises(DataError, match="sentences at least 2"):
        two_fact_stories(sentences=1)
