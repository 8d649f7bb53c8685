"""Stories whose questions take two of their sentences to answer, made here."""

from __future__ import annotations

import torch

from neurarium.data._arrays import Arrays, Split
from neurarium.data._errors import DataError

ACTORS = ("Mary", "John", "Daniel", "Sandra", "Julie", "Fred")
OBJECTS = ("football", "milk", "apple", "book", "lamp", "key")
PLACES = ("kitchen", "garden", "office", "bathroom", "hallway", "bedroom")


def two_fact_stories(
    train: int = 1_000,
    test: int = 1_000,
    *,
    sentences: int = 8,
    actors: int = 4,
    objects: int = 3,
    places: int = 6,
    seed: int = 0,
) -> Split:
    """Where is the football? It is where the one who took it went last (after task 2 of Weston et al., 2015).

    A sentence is "Mary went kitchen" or "Mary took football"; what is taken is kept. The question is about an object
    whose holder has gone somewhere.

    Args:
        train: stories to train on.
        test: stories to test on.
        sentences: of each story.
        actors: 1 to 6, like ``objects`` and ``places``.
        objects: things that can be taken.
        places: answers.
        seed: of all draws.

    Returns:
        x: words by number, [stories, sentences + 1, 3], the question in the last row, 0 where there is no word;
        y: the number of the place's word; ``classes``: the words.

    Raises:
        DataError: a count outside its range, or fewer than two sentences.
    """
    for name, value in (("actors", actors), ("objects", objects), ("places", places)):
        if not 1 <= value <= 6:
            raise DataError(f"{name} must be between 1 and 6, not {value}")
    if train < 1 or test < 0 or sentences < 2:
        raise DataError("train must be at least 1, test not negative, sentences at least 2")
    words = ("", "went", "took", "where", *ACTORS[:actors], *OBJECTS[:objects], *PLACES[:places])
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(train + test, sentences + 1, 3, dtype=torch.int64)
    y = torch.zeros(train + test, dtype=torch.int64)
    first_object, first_place = 4 + actors, 4 + actors + objects

    def draw(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    done = 0
    while done < len(x):
        holder: dict[int, int] = {}
        place: dict[int, int] = {}
        for line in range(sentences):
            actor, free = 4 + draw(actors), [o for o in range(objects) if o not in holder]
            if free and draw(3) == 0:
                thing = free[draw(len(free))]
                holder[thing] = actor
                x[done, line] = torch.tensor([actor, 2, first_object + thing])
            else:
                place[actor] = first_place + draw(places)
                x[done, line] = torch.tensor([actor, 1, place[actor]])
        known = [thing for thing, actor in holder.items() if actor in place]
        if known:  # otherwise the story is told anew
            thing = known[draw(len(known))]
            x[done, -1, :2] = torch.tensor([3, first_object + thing])
            y[done] = place[holder[thing]]
            done += 1
    empty = Arrays(x[:0], y[:0])
    return Split(Arrays(x[:train], y[:train]), empty, Arrays(x[train:], y[train:]), words, "stories")
