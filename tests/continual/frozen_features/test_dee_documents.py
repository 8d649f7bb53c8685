"""The pipeline against the learner called directly, CWR* against its closed form, extractors against what they say."""

import datetime
import math

import numpy as np
import pytest
import torch

from neurarium.continual import (
    EWC,
    AccuracyMatrix,
    CopyWeightReinit,
    DifferentiableEnsemble,
    NearestMeanClassifier,
    StreamClassifier,
)
from neurarium.models import LogMelStatistics, TableStandardizer, TextHasher, feature_extractor


def items(count=30, seed=0):
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))


def ensemble():
    return DifferentiableEnsemble(num_experts=8, k=3, lr=0.01, generator=torch.Generator().manual_seed(5))


NAMES = ["invoice", "letter", "offer"]
LABELS = [NAMES[i % 3] for i in range(30)]


def test_the_pipeline_is_the_learner_on_the_features():
    stream, learner = StreamClassifier("vector", ensemble()), ensemble()
    for seed in range(3):
        stream.partial_fit(items(seed=seed), LABELS)
        learner.observe(items(seed=seed), torch.arange(30) % 3)
    assert torch.equal(stream.predict_scores(items(seed=9)), learner.predict(items(seed=9)))
    best = learner.predict(items(seed=9)).argmax(1).tolist()
    assert stream.predict(items(seed=9)) == [NAMES[i] for i in best]


def test_saved_in_the_middle_it_goes_on_bit_for_bit(tmp_path):
    stream = StreamClassifier("vector", ensemble()).partial_fit(items(), LABELS)
    stream.save(tmp_path / "stream.pt")
    other = StreamClassifier("vector", ensemble()).load(tmp_path / "stream.pt")
    for each in (stream, other):
        each.partial_fit(items(seed=1), LABELS)
    assert torch.equal(stream.learner.weight, other.learner.weight)
    assert other.labels == NAMES
    assert [path.name for path in tmp_path.iterdir()] == ["stream.pt"]
    with pytest.raises(ValueError, match="made with extractor 'vector', not 'text-hash'"):
        StreamClassifier("text-hash", ensemble()).load(tmp_path / "stream.pt")


@pytest.mark.parametrize("labels", [np.array(NAMES * 10), np.arange(30) % 3, torch.arange(30) % 3])
def test_labels_of_arrays_survive_a_file(tmp_path, labels):
    stream = StreamClassifier("vector", ensemble()).partial_fit(items(), labels)
    stream.save(tmp_path / "stream.pt")
    other = StreamClassifier("vector", ensemble()).load(tmp_path / "stream.pt")
    assert other.labels == labels[:3].tolist()
    assert other.predict(items(seed=2)) == stream.predict(items(seed=2))


def test_a_text_is_encoded_once_to_predict_with_abstention():
    calls = []

    def encoder(x):
        calls.append(len(x))
        return x

    stream = StreamClassifier(encoder, ensemble()).partial_fit(items(), LABELS)
    stream.predict(items(seed=2), abstain_below=0.1)
    assert calls == [30, 30]


def test_a_snapshot_answers_as_then():
    stream = StreamClassifier("vector", ensemble()).partial_fit(items(), LABELS)
    copy, before = stream.snapshot(), stream.predict_scores(items(seed=2))
    stream.partial_fit(items(seed=3), ["other"] * 30)
    assert torch.equal(copy.predict_scores(items(seed=2)), before)
    assert copy.labels == NAMES
    assert stream.labels == [*NAMES, "other"]


def test_a_class_that_is_new_changes_no_score_of_the_others():
    learner = DifferentiableEnsemble(num_experts=8, k=3, key_lr=0.0)
    stream = StreamClassifier("vector", learner).partial_fit(items(), LABELS)
    before = stream.predict_scores(items(seed=2))
    stream.partial_fit(items(seed=3), ["other"] * 30)
    assert torch.equal(stream.predict_scores(items(seed=2))[:, :3], before)
    stream.forget_class("other")
    assert "other" not in stream.predict(items(seed=2))


@pytest.mark.parametrize("learner", [ensemble, NearestMeanClassifier])
@pytest.mark.parametrize("label", NAMES)
def test_a_class_that_is_taken_back_keeps_its_column(learner, label):
    stream = StreamClassifier("vector", learner()).partial_fit(items(), LABELS)
    stream.forget_class(label)
    others = [i for i, name in enumerate(NAMES) if name != label]
    scores = stream.predict_scores(items(seed=2))
    assert bool((scores[:, NAMES.index(label)] == -math.inf).all())
    assert bool(scores[:, others].isfinite().all())
    assert label not in stream.predict(items(seed=2))
    stream.partial_fit(items(8, seed=4) + 9, [label] * 8)
    assert stream.labels == NAMES
    assert stream.predict(items(8, seed=5) + 9) == [label] * 8
    with pytest.raises(ValueError, match="label 'bill' was never learned"):
        stream.forget_class("bill")


def test_it_abstains_where_it_is_not_sure():
    stream = StreamClassifier("vector", ensemble()).partial_fit(items(), LABELS)
    assert None not in stream.predict(items(seed=2))
    assert stream.predict(items(seed=2), abstain_below=1.1) == [None] * 30
    with pytest.raises(ValueError, match="has no confidence to abstain by"):
        StreamClassifier("vector", NearestMeanClassifier()).partial_fit(items(), LABELS).predict(
            items(), abstain_below=0.5
        )


def test_a_learner_with_parameters_is_trained():
    torch.manual_seed(0)
    head = torch.nn.Linear(12, 3)
    stream = StreamClassifier("vector", EWC(head))
    centres = 3 * torch.eye(3, 12)
    for _ in range(150):
        stream.partial_fit(centres, NAMES)
    assert stream.predict(centres) == NAMES


def test_memory_does_not_grow_with_the_items():
    stream = StreamClassifier("vector", ensemble()).partial_fit(items(), LABELS)
    size = stream.state_bytes()
    for seed in range(5):
        stream.partial_fit(items(seed=seed), LABELS)
    assert stream.state_bytes() == size


def test_misuse_is_explained():
    with pytest.raises(ValueError, match="did you mean 'text-hash'"):
        StreamClassifier("text-hsh")
    stream = StreamClassifier("vector", ensemble())
    with pytest.raises(ValueError, match="nothing has been learned yet"):
        stream.predict(items())
    stream.partial_fit(items(), LABELS)
    with pytest.raises(ValueError, match="12 before"):
        stream.partial_fit(torch.randn(3, 5), NAMES)
    with pytest.raises(ValueError, match="30 items but 2 labels"):
        stream.partial_fit(items(), ["a", "b"])
    stream.partial_fit(items(1), [1])
    with pytest.raises(ValueError, match=r"another type than before \(int before, str now\)"):
        stream.partial_fit(items(2), ["new", "1"])
    assert stream.labels == [*NAMES, 1]  # nothing of the refused batch was kept
    fixed = StreamClassifier("vector", EWC(torch.nn.Linear(12, 3)))
    with pytest.raises(ValueError, match="tells 3 classes apart, and 4 have come"):
        fixed.partial_fit(items(4), [0, 1, 2, 3])
    assert fixed.labels == []


def test_copied_weights_are_centred_class_rows():
    """One batch per class from zero: the row is lr * (1 - sigmoid(0)) * mean of the class's features."""
    learner = CopyWeightReinit(lr=0.1)
    z = items()
    for c in range(2):
        learner.begin_task(c)
        learner.observe(z[c::2], torch.full((15,), c))
        learner.end_task()
    wanted = torch.stack([0.1 * 0.5 * z[c::2].mean(0) for c in range(2)])
    assert torch.allclose(learner.weight, wanted, atol=1e-6)
    both = CopyWeightReinit(lr=0.1)
    both.observe(z, torch.arange(30) % 2)
    both.end_task()
    step = 0.1 * 0.5 * (z[0::2].sum(0) - z[1::2].sum(0)) / 30
    assert torch.allclose(both.weight, torch.stack([step, -step]) - 0.0, atol=1e-6)
    both.observe(z[:10], torch.zeros(10, dtype=torch.long))
    row = both.temporary[0].clone()
    both.end_task()
    share = math.sqrt(15 / 10)
    assert torch.allclose(both.weight[0], (step * share + row) / (share + 1), atol=1e-6)


def test_the_worked_example_of_the_metrics():
    matrix = AccuracyMatrix([[0.9, 0, 0], [0.6, 0.8, 0], [0.5, 0.7, 0.9]])
    assert matrix.forgetting == pytest.approx(0.25)
    assert matrix.backward_transfer == pytest.approx(-0.25)
    assert matrix.average_accuracy == pytest.approx(0.7)


def test_texts_with_the_same_words_are_close():
    hasher = TextHasher(features=64)
    z = hasher(["the cat sat on the mat", "the cat sat on a mat", "tensor gradients and matrix products"])
    assert torch.allclose(z.norm(dim=1), torch.ones(3))
    assert float(z[0] @ z[1]) > 0.9 > 0.5 > abs(float(z[0] @ z[2]))
    assert torch.equal(hasher(["the cat sat on the mat"]), z[:1])
    with pytest.raises(ValueError, match="text 1 is empty"):
        hasher(["a", " "])
    with pytest.raises(ValueError, match="there is no extractor"):
        feature_extractor("speech")


def test_columns_are_standardised_by_the_rows_seen_so_far():
    rows = 3e9 + torch.randn(100, 4, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1, 9, 1e5, 0])
    table = TableStandardizer()
    with pytest.raises(ValueError, match="no rows have been observed"):
        table(rows)
    for part in (rows[:1], rows[1:40], rows[40:]):
        table.observe(part)
        assert torch.equal(table(rows)[:, 3], torch.zeros(100))
    wanted = (rows - rows.mean(0))[:, :3] / rows.std(0, correction=0)[:3]
    assert torch.allclose(table(rows)[:, :3], wanted.float(), atol=1e-5)
    with pytest.raises(ValueError, match="4 columns as before, not 2"):
        table.observe(rows[:, :2])
    with pytest.raises(ValueError, match="row 1 is not finite"):
        table.observe(torch.tensor([[0.0] * 4, [math.nan] * 4]))
    assert table.rows == 100


def test_a_table_of_unequal_columns_is_learned_and_its_statistics_are_kept(tmp_path):
    scale = torch.logspace(-3, 6, 12)
    stream = StreamClassifier("table", ensemble(), cache=4)
    for seed in range(3):
        stream.partial_fit(items(seed=seed) * scale, LABELS)
    table = TableStandardizer()
    table.observe(torch.cat([items(seed=seed) * scale for seed in range(3)]))
    later = items(seed=5) * scale
    assert torch.allclose(stream.predict_scores(later), stream.learner.predict(table(later)), atol=1e-4)
    stream.save(tmp_path / "stream.pt")
    other = StreamClassifier("table", ensemble()).load(tmp_path / "stream.pt")
    scores, copy = stream.predict_scores(later), stream.snapshot()
    assert torch.equal(other.predict_scores(later), scores)
    with pytest.raises(ValueError, match="30 items but 1 labels"):
        stream.partial_fit(later, ["offer"])
    assert torch.equal(stream.predict_scores(later), scores)  # nor did the refused batch move the columns
    stream.partial_fit(later + 7, LABELS)
    assert torch.equal(copy.predict_scores(later), scores)
    assert not torch.equal(stream.predict_scores(later), scores)


def test_a_tone_lights_up_its_band():
    time = torch.arange(4000) / 8000
    extractor = LogMelStatistics()
    z = extractor(torch.stack([torch.sin(2 * np.pi * hertz * time) for hertz in (300.0, 2000.0)]))
    centres = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + 4000 / 700), 42)[1:-1] / 2595) - 1)
    for row, hertz in zip(z, (300.0, 2000.0)):
        assert abs(float(centres[row[:40].argmax()]) - hertz) < 0.1 * hertz
    assert z.shape == (2, 160)


def test_copied_weights_survive_a_checkpoint_and_a_new_class_within_a_task():
    z, learner, other = items(), CopyWeightReinit(lr=0.1), CopyWeightReinit(lr=0.1)
    learner.observe(z[:10], torch.zeros(10, dtype=torch.long))
    row = learner.temporary[0].clone()
    learner.observe(z[10:20], torch.full((10,), 2))
    assert not torch.equal(learner.temporary[0], torch.zeros(12))
    assert float(row @ learner.temporary[0]) > 0  # went on from where it was
    other.load_state_dict(learner.state_dict())
    for each in (learner, other):
        each.observe(z[20:], torch.zeros(10, dtype=torch.long))
        each.end_task()
    assert torch.equal(learner.weight, other.weight)
    assert float(learner.weight.abs().sum()) > 0


def test_rows_of_a_task_are_centred_before_they_are_kept():
    """Rows that were learned alone do not add up to zero; once they are trained together, their mean is taken out."""
    z, learner = items(), CopyWeightReinit(lr=0.1)
    for c in range(2):
        learner.observe(z[c::2], torch.full((15,), c))
        learner.end_task()
    before = learner.weight.clone()
    learner.observe(z, torch.arange(30) % 2)
    rows = learner.temporary.clone()
    assert abs(float(rows.mean())) > 1e-4
    learner.end_task()
    assert torch.allclose(learner.weight, (before + rows - rows.mean()) / 2, atol=1e-6)  # as many examples as before
    assert learner.past.tolist() == [30, 30]


def test_a_class_that_is_new_after_a_file_starts_as_it_would_have(tmp_path):
    stream = StreamClassifier("vector").partial_fit(items(), LABELS)
    stream.save(tmp_path / "stream.pt")
    other = StreamClassifier("vector").load(tmp_path / "stream.pt")
    for each in (stream, other):
        each.partial_fit(items(seed=1), ["new" if i % 2 else "offer" for i in range(30)])
    assert torch.equal(stream.learner.weight, other.learner.weight)


def test_one_and_one_point_nought_are_one_class():
    stream = StreamClassifier("vector", ensemble())
    stream.partial_fit(items(), [[1, 2][i % 2] for i in range(30)])
    stream.partial_fit(items(), [[1.0, np.float32(2)][i % 2] for i in range(30)])
    assert stream.labels == [1, 2]
    assert stream.learner.batches.tolist() == [2, 2]
    for label in (True, "1"):
        with pytest.raises(ValueError, match="another type than before"):
            stream.partial_fit(items(), [label] * 30)
    with pytest.raises(ValueError, match="label 29 is NaN"):
        stream.partial_fit(items(), [1] * 29 + [math.nan])
    assert stream.labels == [1, 2]


def test_labels_that_are_dates_come_back_from_a_file(tmp_path):
    days = [
        datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1, 12, 30), np.datetime64("2024-05-03"), ("a", 1), None,
    ]  # fmt: skip
    stream = StreamClassifier("vector", ensemble()).partial_fit(items(), [days[i % 5] for i in range(30)])
    stream.save(tmp_path / "stream.pt")
    other = StreamClassifier("vector", ensemble()).load(tmp_path / "stream.pt")
    assert other.labels == [*days[:2], datetime.date(2024, 5, 3), *days[3:]]
    assert [type(label) for label in other.labels[:2]] == [datetime.date, datetime.datetime]
    means = NearestMeanClassifier()
    means.observe(items(), [days[i % 5] for i in range(30)])
    torch.save(means.state_dict(), tmp_path / "means.pt")
    copy = NearestMeanClassifier()
    copy.load_state_dict(torch.load(tmp_path / "means.pt", weights_only=True))
    assert copy.classes == means.classes
    with pytest.raises(ValueError, match="cannot be saved: labels must be text, numbers, dates"):
        StreamClassifier("vector", ensemble()).partial_fit(items(), [frozenset({1})] * 30).save(tmp_path / "no.pt")
    assert not (tmp_path / "no.pt").exists()


def test_a_file_of_another_extractor_or_learner_is_refused(tmp_path):
    torch.manual_seed(0)
    StreamClassifier(torch.nn.Linear(12, 6), ensemble()).partial_fit(items(), LABELS).save(tmp_path / "stream.pt")
    torch.manual_seed(0)
    StreamClassifier(torch.nn.Linear(12, 6), ensemble()).load(tmp_path / "stream.pt")
    with pytest.raises(ValueError, match="another 'Linear': its weights or settings differ"):
        StreamClassifier(torch.nn.Linear(12, 6), ensemble()).load(tmp_path / "stream.pt")
    torch.manual_seed(0)
    fresh = StreamClassifier(torch.nn.Linear(12, 6), DifferentiableEnsemble(num_experts=8, k=3))
    with pytest.raises(ValueError, match=r"with lr=0.01: build DifferentiableEnsemble with the settings"):
        fresh.load(tmp_path / "stream.pt")
    assert fresh.labels == []
    (tmp_path / "other.pt").write_bytes(b"no")
    torch.save({"a": 1}, tmp_path / "dict.pt")
    for name in ("other.pt", "dict.pt"):
        with pytest.raises(ValueError, match=r"is no file that StreamClassifier.save wrote"):
            fresh.load(tmp_path / name)
