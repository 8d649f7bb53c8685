"""Every module under DistributedDataParallel on two ranks, in one launch."""

import json

from tests.ranks import run_ranks

CODE = """
import json
from neurarium.testing import components, exemption
from neurarium.testing.ranks import check_data_parallel
from neurarium.testing.seams import module_example
wrong, tried = {}, 0
for place, thing in components().items():
    if exemption(thing) or not module_example(thing):
        continue
    tried += 1
    try:
        check_data_parallel(thing)
    except Exception as error:
        wrong[place] = str(error)[:300]
print(json.dumps([tried, wrong]))
"""

JOINED = {"objectives.OmniSupervised"}
"""Contrasts each image with the keys of all ranks, so its gradients are not the mean of those of each rank alone."""


def test_modules_average_their_gradients(tmp_path):
    for said in run_ranks(CODE, tmp_path):
        tried, wrong = json.loads(said.splitlines()[-1])
        assert tried > 60
        assert set(wrong) == JOINED, wrong
