"""Learn digits from a table of contradicting labels, and find out who gave them."""

import pandas as pd
import torch
from torch import nn

from neurarium.data import CrowdBatches, crowd_table, load, mask_annotations, simulate_annotators
from neurarium.learning import dawid_skene
from neurarium.objectives import MaDL
from neurarium.probes import annotator_report, crowd_scores
from neurarium.training import fit

digits = load("digits").scaled().flat()
g = torch.Generator().manual_seed(0)
people = simulate_annotators(digits.train.x, digits.train.y, generator=g)
said = mask_annotations(people.annotations, 0.7, g)

# as people have it: one row per label that somebody gave
item, who = (said >= 0).nonzero(as_tuple=True)
table = pd.DataFrame({"item": item, "annotator": [f"person {m}" for m in who.tolist()], "label": said[item, who]})
crowd = crowd_table(table, items=range(len(said)), classes=range(10))
print(f"{len(table)} labels of {len(crowd.item_names)} digits by {len(crowd.worker_names)} people")
votes = dawid_skene(crowd.items, crowd.workers, crowd.labels, len(said), len(crowd.worker_names), 10)
print(f"Dawid and Skene label {float((votes.labels == digits.train.y).double().mean()):.3f} of them rightly")

torch.manual_seed(0)
classifier = nn.Sequential(nn.Linear(64, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10))
madl = MaDL(classifier, annotators=len(crowd.worker_names))
optimizer = torch.optim.AdamW(madl.parameters(), 5e-3)
fit(madl, CrowdBatches(digits.train.x, crowd, 64, shuffle=True), optimizer, epochs=10)

order = [crowd.worker_names.index(f"person {m}") for m in range(10)]  # the table's order of people is its own
columns = torch.empty_like(people.annotations)
columns[:, order] = people.annotations
print(crowd_scores(madl, digits.train.x, digits.train.y, columns).summary())
print(annotator_report(madl, digits.train.x).summary())
