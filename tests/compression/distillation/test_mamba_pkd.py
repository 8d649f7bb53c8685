"""Progressive distillation: what one member is, what the line search may do, and when an input is done."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, kl_div
from torch.utils.flop_counter import FlopCounterMode

from neurarium.compression import AnytimeEnsemble, ProgressiveDistillation, account, operations, plain_student
from neurarium.layers import MambaBlock
from neurarium.models import MambaClassifier, mamba_ladder


def blobs(count=240, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(3, (count,), generator=g)
    return 2 * torch.eye(3, 6)[y] + torch.randn(count, 6, generator=g), y


def teacher():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))
    x, y = blobs()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def linear(share, example, num_classes, flops):
    return nn.Linear(6, num_classes)


def test_one_member_is_plain_distillation_bit_for_bit():
    model, (x, y) = teacher(), blobs()
    chain = ProgressiveDistillation(linear, shares=(0.1,), epochs=2, held_out=0.25, batch_size=60)
    torch.manual_seed(7)
    found = chain.compress(model, [(x, y)])
    torch.manual_seed(7)
    train = torch.randperm(240)[60:]
    student = nn.Linear(6, 3)
    optimizer = torch.optim.Adam(student.parameters(), 2e-3)
    with torch.no_grad():
        answers = model(x)
    for _ in range(2):
        for rows in torch.randperm(180).split(60):
            rows = train[rows]
            optimizer.zero_grad()
            out = student(x[rows])
            soft = kl_div((out / 2).log_softmax(1), (answers[rows] / 2).softmax(1), reduction="none").sum(1)
            (0.5 * cross_entropy(out, y[rows], reduction="none") + 2 * soft).mean().backward()
            optimizer.step()
    assert found.weights.tolist() == [1.0]
    assert torch.allclose(found(x), student(x), atol=1e-6)


def compressed(chain, x, y):
    """The chain, the teacher's answers, and the rows that members train on; draws go on as they do in the chain."""
    model = teacher()
    torch.manual_seed(7)
    found = chain.compress(model, [(x, y)])
    torch.manual_seed(7)
    train = torch.randperm(240)[60:]
    with torch.no_grad():
        return found, model(x), train


def test_the_second_member_learns_what_the_first_has_missed():
    x, y = blobs()
    chain = ProgressiveDistillation(linear, shares=(0.1, 0.1), epochs=2, held_out=0.25, batch_size=60, min_gain=-9.0)
    found, said, train = compressed(chain, x, y)
    group, weight = torch.zeros(240, 3), torch.ones(240)
    for eta in found.weights.tolist():
        student = nn.Linear(6, 3)
        optimizer = torch.optim.Adam(student.parameters(), 2e-3)
        for _ in range(2):
            for rows in torch.randperm(180).split(60):
                rows = train[rows]
                optimizer.zero_grad()
                out = group[rows] + student(x[rows])
                soft = kl_div((out / 2).log_softmax(1), (said[rows] / 2).softmax(1), reduction="none").sum(1)
                hard = cross_entropy(out, y[rows], reduction="none")
                (weight[rows] * (0.5 * hard + 2 * soft)).mean().backward()
                optimizer.step()
        with torch.no_grad():
            group = group + eta * student(x)
        missed = ((said / 2).softmax(1) * ((said / 2).log_softmax(1) - (group / 2).log_softmax(1))).sum(1)
        weight = (missed + 0.1 * missed.mean()) / (1.1 * missed.mean())
    assert len(found.weights) == 2
    assert torch.allclose(found(x), group, atol=1e-5)


def test_members_of_the_control_each_learn_from_the_teacher_alone():
    x, y = blobs()
    chain = ProgressiveDistillation(linear, shares=(0.1, 0.1), progressive=False, epochs=2, held_out=0.25)
    found, said, train = compressed(chain, x, y)
    for member in found.members:
        student = nn.Linear(6, 3)
        chain._train(AnytimeEnsemble([student], [1.0], []), x[train], y[train], said[train], torch.zeros(180, 3),
                     torch.ones(180))  # fmt: skip
        assert torch.equal(member.weight, student.weight)


def test_on_labels_alone_the_teachers_answers_do_not_matter():
    x, y = blobs()
    found = []
    for model in (teacher(), nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.Linear(64, 3))):
        torch.manual_seed(7)
        chain = ProgressiveDistillation(
            linear, shares=(0.1, 0.1), alpha=1.0, epochs=3, min_gain=-9.0, learning_rate=0.02
        )
        found.append(chain.compress(model, [(x, y)]))
        assert len(found[-1].members) == 2
    assert torch.equal(found[0](x), found[1](x))


@pytest.mark.parametrize(("eta", "gain"), [(0.35, 1.0), (1.0, 1.0), (0.0, 0.0)])
def test_the_line_search_finds_what_is_missing(eta, gain):
    torch.manual_seed(0)
    chain = ProgressiveDistillation(linear, alpha=0.0)
    group, found = torch.randn(30, 3).double(), torch.randn(30, 3).double()
    teacher_says = group + (eta if eta else -1.0) * found
    best, gained = chain._line_search(group, found, teacher_says, torch.zeros(30, dtype=torch.long))
    assert best == eta
    assert gained == pytest.approx(gain, abs=1e-9)  # a share of what was left


def test_the_line_search_sees_what_the_students_have_not():
    class Watched(ProgressiveDistillation):
        def _train(self, trial, x, *rest):
            self.trained = x
            super()._train(trial, x, *rest)

        def losses(self, logits, teacher, y):
            if not torch.is_grad_enabled() or not logits.requires_grad:
                self.judged.append(len(y))
            return super().losses(logits, teacher, y)

    x, y = blobs()
    chain = Watched(linear, shares=(0.1, 0.1), epochs=1, held_out=0.25)
    chain.judged = []
    chain.compress(teacher(), [(x, y)])
    assert len(chain.trained) == 180
    assert chain.judged == [60] * 21


def test_a_weak_learner_has_both_a_weight_and_a_gain():
    x, y = blobs()
    for min_gain, members in ((-9.0, 2), (0.99, 1)):
        torch.manual_seed(7)
        chain = ProgressiveDistillation(linear, shares=(0.1, 0.1), epochs=10, min_gain=min_gain)
        assert len(chain.compress(teacher(), [(x, y)]).members) == members


class Normed(nn.Module):
    """Counts how often it has looked at a batch in training."""

    def __init__(self, width):
        super().__init__()
        self.first, self.norm = nn.Linear(6, width), nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 3)

    def features(self, x):
        return self.norm(self.first(x))

    def forward(self, x):
        return self.head(self.features(x))


def test_members_are_in_evaluation_mode_once_they_have_learnt_and_heads_fit_the_features_before():
    sizes, (x, y) = iter((4, 7, 5)), blobs()
    chain = ProgressiveDistillation(
        lambda *_: Normed(next(sizes)), shares=(0.1, 0.1, 0.1), connected=True, epochs=2, held_out=0.25, batch_size=60,
        min_gain=-9.0, learning_rate=0.02,
    )  # fmt: skip
    torch.manual_seed(0)
    group = chain.compress(teacher(), [(x, y)])
    assert [m.head.in_features for m in group.members] == [4, 4 + 7, 7 + 5]
    assert [int(m.norm.num_batches_tracked) for m in group.members] == [6, 6, 6]
    first, second, third = group.members
    a, b, c = (m.features(x) for m in group.members)
    logits = [first.head(a), second.head(torch.cat([b, a], 1)), third.head(torch.cat([c, b], 1))]
    torch.testing.assert_close(group(x), sum(w * out for w, out in zip(group.weights, logits)))
    classes, used = group.predict(x, confidence=0.6)
    assert {int(n) for n in used} == {1, 2, 3}
    for row in range(240):  # each input stops at the first sum that is sure
        sums = [group(x[row : row + 1], m).detach() for m in (1, 2, 3)]
        sure = next((m for m, s in enumerate(sums, 1) if float(s.softmax(1).max()) > 0.6), 3)
        assert (int(used[row]), int(classes[row])) == (sure, int(sums[sure - 1].argmax()))


def test_every_member_lowers_the_loss_and_the_sum_is_the_group():
    model, (x, y) = teacher(), blobs()
    torch.manual_seed(0)
    chain = ProgressiveDistillation(plain_student, shares=(0.05, 0.2, 0.3), epochs=15)
    before = copy.deepcopy(model.state_dict())
    group = chain.compress(model, [(x, y)])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    with torch.no_grad():
        losses = [float(chain.losses(group(x, m), model(x), y).mean()) for m in range(1, len(group.members) + 1)]
        total = sum(w * member(x) for w, member in zip(group.weights, group.members))
    assert len(losses) >= 2
    assert losses == sorted(losses, reverse=True)
    assert torch.allclose(group(x), total)
    assert int(group.flops.sum()) < 0.56 * operations(model, x[:1])


def test_a_student_that_learns_nothing_is_left_out():
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return 0 * self.scale * x[:, :3]

    made = []

    def factory(share, example, num_classes, flops):
        made.append(nn.Linear(6, 3) if len(made) != 1 else Silent())
        return made[-1]

    x, y = blobs()
    group = ProgressiveDistillation(factory, shares=(0.1, 0.1), epochs=10).compress(teacher(), [(x, y)])
    assert len(made) == 2
    assert list(group.members) == [made[0]]


def test_a_member_of_weight_zero_changes_nothing():
    torch.manual_seed(0)
    a, b = nn.Linear(6, 3), nn.Linear(6, 3)
    x = torch.randn(4, 6)
    assert torch.equal(AnytimeEnsemble([a, b], [1.0, 0.0], [36, 36])(x), a(x))


def test_budget_and_confidence_decide_how_many_are_asked():
    sure, unsure = torch.tensor([[9.0, 0, 0]]), torch.tensor([[0.1, 0, 0]])

    class Says(nn.Module):
        def forward(self, x):
            return torch.where(x[:, :1] > 0, sure, unsure)

    x = torch.tensor([[1.0], [-1.0]])
    group = AnytimeEnsemble([Says(), Says(), Says()], [1.0, 1.0, 1.0], [10, 20, 30])
    assert group.predict(x, confidence=0.9)[1].tolist() == [1, 3]
    assert group.predict(x, flop_budget=35)[1].tolist() == [2, 2]
    assert group.predict(x)[1].tolist() == [3, 3]
    with pytest.raises(ValueError, match="first member takes 10 operations, more than 5"):
        group.predict(x, flop_budget=5)
    with pytest.raises(ValueError, match="members must be between 1 and 3"):
        group(x, 4)


def test_doubt_is_about_the_weighted_sum():
    class Says(nn.Module):
        def __init__(self, *logits):
            super().__init__()
            self.logits = torch.tensor([logits])

        def forward(self, x):
            return self.logits.expand(len(x), -1)

    x = torch.zeros(2, 1)
    twice = AnytimeEnsemble([Says(2.0, 0, 0), Says(2.0, 0, 0), Says(2.0, 0, 0)], [1.0, 1.0, 1.0], [1, 1, 1])
    assert twice.predict(x, confidence=0.9)[1].tolist() == [2, 2]  # softmax of 2 is 0.79, of 4 is 0.96
    against = AnytimeEnsemble([Says(1.0, 0, 0), Says(0, 1.5, 0)], [1.0, 0.5], [1, 1])
    assert against.predict(x)[0].tolist() == [0, 0]  # 1 against 0.75
    assert against(x).tolist() == [[1.0, 0.75, 0.0]] * 2


def test_connected_members_read_the_features_before():
    torch.manual_seed(0)
    x = torch.randn(60, 8, 8)
    y = torch.randint(3, (60,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))

    def factory(share, example, num_classes, flops):
        return MambaClassifier(8, 4, 1, 4, 1, num_classes, d_state=2)

    chain = ProgressiveDistillation(factory, shares=(0.1, 0.2), connected=True, epochs=1, min_gain=-9.0)
    group = chain.compress(model, [(x, y)])
    assert [member.head.in_features for member in group.members] == [4, 8][: len(group.members)]
    assert group(x).shape == (60, 3)
    with pytest.raises(ValueError, match="need a method features"):
        ProgressiveDistillation(linear, shares=(0.1, 0.1), connected=True, epochs=1).compress(teacher(), [blobs()])


def test_the_control_averages_students_that_do_not_know_of_each_other():
    x, y = blobs()
    group = ProgressiveDistillation(linear, shares=(0.1, 0.1), progressive=False, epochs=2).compress(
        teacher(), [(x, y)]
    )
    assert group.weights.tolist() == [0.5, 0.5]


def test_operations_count_products_as_torch_does_and_recurrences_too():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    x = torch.randn(2, 1, 8, 8)
    with FlopCounterMode(display=False) as counter:
        net(x)
    assert operations(net, x) == counter.get_total_flops() == account(net, x).flops
    block, tokens = MambaBlock(4, d_state=2), torch.randn(3, 5, 4)
    assert operations(block, tokens) - account(block, tokens).flops == 3 * 5 * 9 * 8 * 2
    assert MambaBlock(4, d_state=2, bidirectional=True).scan_flops(5) == 2 * 5 * 9 * 8 * 2


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [1, 2])
def test_a_classifiers_operations_are_those_counted(channels, depth):
    model = MambaClassifier(12, 4, channels, 6, depth, 5, d_state=3)
    counted, by_hand = operations(model, torch.zeros(1, channels, 12, 12)), model.flops()
    # the counter sees 3 more positions of each causal convolution, padded and both ways
    assert counted - by_hand == pytest.approx(0, abs=2 * 2 * 3 * 12 * 4 * depth)


def test_a_classifier_is_patches_blocks_between_norms_and_a_mean():
    torch.manual_seed(0)
    model = MambaClassifier(6, 3, 2, 4, 2, 5, d_state=2).double()
    with torch.no_grad():
        for norm in model.norms:
            norm.weight.uniform_(0.5, 2)
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)

    def normed(tokens, norm):
        return norm.weight * tokens / (tokens.square().mean(-1, keepdim=True) + torch.finfo(torch.float64).eps).sqrt()

    patches = nn.functional.unfold(x, 3, stride=3).transpose(1, 2)  # [batch, 4, 18]
    tokens = patches @ model.embed.weight.flatten(1).T + model.embed.bias + model.position
    for norm, block in zip(model.norms, model.blocks):
        tokens = tokens + block(normed(tokens, norm))
    read = normed(tokens, model.norms[2]).sum(1) / 4
    torch.testing.assert_close(model.features(x), read)
    torch.testing.assert_close(model(x), read @ model.head.weight.T + model.head.bias)
    assert model.blocks[0].bidirectional


def test_the_ladder_uses_its_shares_and_names_the_smallest():
    example = torch.zeros(1, 28, 28)
    for share, model in zip((0.02, 0.1, 0.3), mamba_ladder(3e6, (0.02, 0.1, 0.3))):
        assert 0.5 * share < model.flops() / 3e6 <= share
        assert model.flops() == pytest.approx(operations(model, example), rel=0.06)
        assert model(example).shape == (1, 10)
    with pytest.raises(ValueError, match="is too small: the smallest classifier takes"):
        mamba_ladder(1e5, (0.01,))
    with pytest.raises(ValueError, match="multiple of patch, unlike 28 and 5"):
        MambaClassifier(28, 5)


def test_what_a_perfect_group_misses_is_nothing_and_never_less():
    method = ProgressiveDistillation()
    teacher = 20 * torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    y = teacher.argmax(1)
    for group in (teacher, teacher + 1e-4 * torch.randn(200, 10, generator=torch.Generator().manual_seed(1))):
        weights = method._weights(group, teacher, y, False)
        assert bool((weights >= 0).all())
        assert float(weights.mean()) == pytest.approx(1, rel=1e-4)
        assert bool((method.losses(group, teacher, y) >= 0).all())


def test_what_is_frozen_in_a_student_stays_frozen():
    frozen = []

    def student(share, example, classes, flops):
        net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, classes))
        net[0].requires_grad_(False)
        frozen.append((net[0], net[0].weight.clone()))
        return net

    loader = [(torch.randn(40, 8), torch.arange(40) % 3)]
    small = ProgressiveDistillation(student, shares=(0.5, 0.5), epochs=2, min_gain=-1.0).compress(
        nn.Linear(8, 3), loader
    )
    for layer, before in frozen:
        assert not layer.weight.requires_grad
        assert torch.equal(layer.weight, before)
    assert any(p.requires_grad for p in small.parameters())
