"""A minute of random faults: the champion stays whole and nobody has to repair anything."""

import json

from tests.journeys.person import Person


def test_a_minute_of_faults_needs_nobody(clone: Person) -> None:
    said = clone.types(".venv/bin/python -m benchmarks.chaos --minutes 1 --variants 1", within=900)
    summary = json.loads(said.lines[-1])
    assert summary["rounds"] >= 1
    assert (summary["interventions"], summary["wrong_bytes"], summary["found"]) == (0, 0, [])
