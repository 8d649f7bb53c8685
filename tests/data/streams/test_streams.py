import numpy as np
import pytest
import torch
from scipy import ndimage

from neurarium.data import (
    Arrays,
    DataError,
    Split,
    load,
    permuted_square,
    permuted_stream,
    rotated_stream,
    split_stream,
)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def colour_split():
    x = torch.arange(5 * 3 * 6 * 6, dtype=torch.float32).reshape(5, 3, 6, 6)
    part = Arrays(x, torch.arange(5))
    return Split(part, part[:0], part, tuple("01234"), "colour")


@pytest.mark.parametrize("flat", [False, True])
def test_permutation_moves_values_and_changes_nothing_else(digits, flat):
    split = digits.flat() if flat else digits
    stream = permuted_stream(split, 3, seed=1)
    assert torch.equal(stream[0].train.x, split.train.x)
    for task in stream[1:]:
        assert task.train.x.shape == split.train.x.shape
        assert task.train.x.dtype == torch.uint8
        assert torch.equal(task.train.y, split.train.y)
        before, after = split.train.x.flatten(1), task.train.x.flatten(1)
        assert torch.equal(after.sort(1).values, before.sort(1).values)
        assert not torch.equal(after, before)


def test_permutation_is_the_same_for_all_parts_and_examples(digits):
    marks = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8).repeat(3, 1, 1)
    part = Arrays(marks, torch.zeros(3, dtype=torch.int64))
    task = permuted_stream(Split(part, part, part), 1, identity_first=False)[0]
    for x in (task.train.x, task.validation.x, task.test.x):
        assert torch.equal(x, task.train.x[:1].expand(3, 8, 8))
        assert sorted(x[0].flatten().tolist()) == list(range(64))


def test_a_task_does_not_depend_on_the_number_of_tasks_but_on_the_seed(digits):
    short, long, other = permuted_stream(digits, 2), permuted_stream(digits, 5), permuted_stream(digits, 2, seed=1)
    assert torch.equal(short[1].test.x, long[1].test.x)
    assert not torch.equal(short[1].test.x, other[1].test.x)


def test_identity_first_is_an_argument(digits):
    assert not torch.equal(permuted_stream(digits, 1, identity_first=False)[0].train.x, digits.train.x)


def test_flat_and_image_permutations_agree(digits):
    images, vectors = permuted_stream(digits, 2), permuted_stream(digits.flat(), 2)
    assert torch.equal(images[1].train.x.flatten(1), vectors[1].train.x)


def test_channels_of_a_pixel_move_together():
    split = colour_split()
    task = permuted_stream(split, 1, identity_first=False)[0]
    offset = task.train.x[:, 1] - task.train.x[:, 0]
    assert torch.equal(offset, split.train.x[:, 1] - split.train.x[:, 0])


@pytest.mark.parametrize("size", [0, 1, 3, 4, 6])
def test_square_changes_only_its_inside(size):
    split = colour_split()
    task = permuted_square(split, size, seed=3)
    first = (6 - size) // 2
    outside = torch.ones(6, 6, dtype=torch.bool)
    outside[first : first + size, first : first + size] = False
    assert torch.equal(task.train.x[..., outside], split.train.x[..., outside])
    assert torch.equal(task.train.x.flatten(2).sort(-1).values, split.train.x.flatten(2).sort(-1).values)
    assert torch.equal(task.train.x, split.train.x) == (size < 2)


@pytest.mark.parametrize("relabel", [False, True])
def test_split_stream_partitions_the_examples(digits, relabel):
    stream = split_stream(digits, 2, relabel=relabel)
    assert len(stream) == 5
    assert sum(len(task.train) for task in stream) == len(digits.train)
    for number, task in enumerate(stream):
        wanted = [0, 1] if relabel else [2 * number, 2 * number + 1]
        assert task.test.y.unique().tolist() == wanted
    assert stream[1].classes == (("2", "3") if relabel else digits.classes)


def test_quarter_turns_are_exact(digits):
    stream = rotated_stream(digits, [0, 90, 180, -90, 450])
    for task, turns in zip(stream, [0, 1, 2, 3, 1]):
        assert torch.equal(task.test.x, torch.rot90(digits.test.x, turns, (-2, -1)))


@pytest.mark.parametrize("angle", [10.0, 33.0, -70.0])
@pytest.mark.parametrize("shape", [(28, 28), (28, 20)])
def test_rotation_agrees_with_scipy(angle, shape):
    image = torch.zeros(1, *shape)
    image[0, 9:19, 6:15] = torch.rand(10, 9)
    part = Arrays(image, torch.zeros(1))
    ours = rotated_stream(Split(part, part[:0], part), [angle])[0].train.x[0].numpy()
    theirs = ndimage.rotate(image[0].numpy(), angle, reshape=False, order=1)
    assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda split: permuted_stream(split, 0), "tasks"),
        (lambda split: split_stream(split, 3), "classes_per_task"),
        (lambda split: split_stream(split, 0), "classes_per_task"),
        (lambda split: split_stream(split, 11), "classes_per_task"),
        (lambda split: split_stream(load("diabetes")), "diabetes has no classes"),
        (lambda split: rotated_stream(split.flat(), [10]), "images"),
        (lambda split: rotated_stream(split, []), "angles"),
        (lambda split: rotated_stream(split, [float("nan")]), "angles"),
        (lambda split: permuted_square(split, 9), "size"),
        (lambda split: permuted_square(split, -1), "size"),
        (lambda split: permuted_square(split.flat(), 2), "images"),
    ],
)
def test_refusals(digits, call, words):
    with pytest.raises(DataError, match=words):
        call(digits)
