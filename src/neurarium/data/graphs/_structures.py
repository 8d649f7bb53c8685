"""Graphs, triples and crowd labels: what has no row per example."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from neurarium.data._archives import read_npz
from neurarium.data._errors import DataError, nearest
from neurarium.data.known._cache import members, obtain
from neurarium.data.known._sets import known


@dataclass(frozen=True)
class Graph:
    """Nodes with features and classes.

    Args:
        features: float32 [nodes, features].
        edges: int64 [2, edges], each undirected edge in both directions.
        labels: int64 [nodes]; -1 where unknown.
        train: bool [nodes]; so are ``validation`` and ``test``.
        classes: number of classes.
        name: of the set.
    """

    features: Tensor
    edges: Tensor
    labels: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor
    classes: int
    name: str = ""


@dataclass(frozen=True)
class Triples:
    """Facts of a knowledge graph, int64 [facts, 3]: head, relation, tail.

    Args:
        train: what methods learn from; ``validation`` and ``test`` alike.
        entities: names by index.
        relations: names by index.
        name: of the set.
    """

    train: Tensor
    validation: Tensor
    test: Tensor
    entities: tuple[str, ...]
    relations: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class CrowdLabels:
    """Labels that several workers gave to items, one per row; a worker may have labelled an item twice.

    Args:
        workers: int64 [rows], index into ``worker_names``.
        items: int64 [rows], index into ``item_names``.
        labels: int64 [rows], index into ``classes``.
        gold: int64 [items], the true class; -1 where unknown.
        classes: names.
        worker_names: as published.
        item_names: as published.
        name: of the set and its variant.
    """

    workers: Tensor
    items: Tensor
    labels: Tensor
    gold: Tensor
    classes: tuple[str, ...]
    worker_names: tuple[str, ...]
    item_names: tuple[str, ...]
    name: str = ""


CROWDS = {
    "adult-2": ("AdultContent2", "gold.txt"),
    "adult-3": ("AdultContent3-HCOMP2010", ""),
    "tweets": ("BarzanMozafari", "evaluation.txt"),
    "spam-crowdflower": ("HITspam-UsingCrowdflower", "gold.txt"),
    "spam-mturk": ("HITspam-UsingMTurk", ""),  # its gold file names other items
}


def load_graph(name: str) -> Graph:
    """A citation graph with the Planetoid split: cora or citeseer.

    Raises:
        DataError: no such set, or no source can be reached.
    """
    entry = known(name, "graph")
    (path,) = obtain(entry).values()
    arrays = read_npz(path)
    width = int(arrays["num_features"])
    once = torch.from_numpy(arrays["edges"]).long().T
    train, validation, test = (torch.from_numpy(arrays[part]) for part in ("train", "val", "test"))
    labels = torch.from_numpy(arrays["labels"]).long()
    features = torch.from_numpy(np.unpackbits(arrays["features"].view(np.uint8), axis=1, count=width)).float()
    edges = torch.cat([once, once.flip(0)], 1)
    return Graph(features, edges, labels, train, validation, test, int(labels.max()) + 1, name)


def load_triples(name: str) -> Triples:
    """The facts of a knowledge graph with their published split: wn18rr or fb15k-237.

    Raises:
        DataError: no such set, or no source can be reached.
    """
    contents = {file: content.decode("utf-8") for file, content in members(known(name, "triples")).items()}
    return read_wordnet(contents, name) if name == "wn18rr" else read_freebase(contents, name)


def read_wordnet(contents: dict[str, str], name: str) -> Triples:
    """``head relation tail`` by name; indices in the order of first appearance, training first."""
    entities: dict[str, int] = {}
    relations: dict[str, int] = {}
    parts = []
    for part in ("train", "valid", "test"):
        facts = [line.split("\t") for line in contents[f"WN18RR/text/{part}.txt"].splitlines()]
        parts.append(
            torch.tensor(
                [
                    (
                        entities.setdefault(head, len(entities)),
                        relations.setdefault(relation, len(relations)),
                        entities.setdefault(tail, len(entities)),
                    )
                    for head, relation, tail in facts
                ]
            )
        )
    train, validation, test = parts
    return Triples(train, validation, test, tuple(entities), tuple(relations), name)


def read_freebase(contents: dict[str, str], name: str) -> Triples:
    """``head tail relation`` by index; the first line of each file counts the others."""

    def lines(part: str) -> list[list[str]]:
        rows = contents[f"benchmarks/FB15K237/{part}2id.txt"].splitlines()[1:]
        return [row.split() for row in rows if row.strip()]

    def facts(part: str) -> Tensor:
        return torch.tensor([[int(value) for value in row] for row in lines(part)])[:, [0, 2, 1]]

    def names(kind: str) -> tuple[str, ...]:
        return tuple(row[0] for row in sorted(lines(kind), key=lambda row: int(row[1])))

    return Triples(facts("train"), facts("valid"), facts("test"), names("entity"), names("relation"), name)


def load_crowd(name: str, variant: str) -> CrowdLabels:
    """Labels from crowd workers: crowd-mturk.

    Args:
        name: ``crowd-mturk``.
        variant: ``adult-2`` (web pages, 4 grades; truth known for 333), ``adult-3`` (web pages, 5 grades, no truth),
            ``tweets`` (2 classes, truth of all), ``spam-crowdflower`` (2 classes, truth of 100) or ``spam-mturk``
            (2 classes, no truth).

    Raises:
        DataError: no such set or variant, or no source can be reached.
    """
    entry = known(name, "crowd")
    if variant not in CROWDS:
        raise DataError(f"{name} has no variant {variant!r}; {nearest(str(variant), CROWDS)}")
    folder, gold_file = CROWDS[variant]
    contents = members(entry)

    def rows(file: str) -> list[list[str]]:
        lines = contents[f"data/{folder}/{file}"].decode("utf-8").splitlines()
        return [line.split("\t") for line in lines if line.strip()]

    answers = rows("labels.txt")
    truth = rows(gold_file) if gold_file else []
    classes = sorted({row[2] for row in answers} | {row[1] for row in truth})
    workers = {worker: i for i, worker in enumerate(dict.fromkeys(row[0] for row in answers))}
    items = {item: i for i, item in enumerate(dict.fromkeys(row[1] for row in answers))}
    index = {label: i for i, label in enumerate(classes)}
    gold = torch.full((len(items),), -1)
    for item, label in truth:
        if item in items:  # a few items with a known truth were never labelled
            gold[items[item]] = index[label]
    return CrowdLabels(
        torch.tensor([workers[row[0]] for row in answers]),
        torch.tensor([items[row[1]] for row in answers]),
        torch.tensor([index[row[2]] for row in answers]),
        gold,
        tuple(classes),
        tuple(workers),
        tuple(items),
        f"{name} {variant}",
    )
