"""benchmarks/side_by_side.py: sides are timed as they are, and one that fails does not stop the others."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
from side_by_side import SIDES, Contestant, Side, SideError, race

SLEEPER = """
import sys, time
print("what a library prints at its import is no answer either")
sys.path.append(sys.argv[2])
from protocol import Job, serve

def sleep(structures, factor=1.0):
    print("what a library prints is no answer")
    return Job(lambda: time.sleep(factor * float(sys.argv[1])), {"energy": [1.0]})

def fail(structures):
    raise ValueError("no such crystal")

serve({"sleep": sleep, "fail": fail}, {"versions": {}})
"""


@pytest.fixture
def start(tmp_path):
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER)

    def started(name: str, seconds: float) -> Side:
        return Side(name, [sys.executable, script, str(seconds), SIDES], threads=1, log=tmp_path / f"{name}.log")

    return started


def test_the_slower_side_is_slower_and_the_failing_one_is_out(start):
    with start("quick", 0.002) as quick, start("slow", 0.02) as slow:
        contestants = {
            "quick": Contestant(quick, "sleep", Path("none")),
            "quick, with an option": Contestant(quick, "sleep", Path("none"), {"factor": 5.0}),
            "slow": Contestant(slow, "sleep", Path("none")),
            "broken": Contestant(slow, "fail", Path("none")),
        }
        outcomes = race(contestants, repeats=3, seconds=0.02)
    assert [len(outcomes[name].seconds) for name in contestants] == [3, 3, 3, 0]
    assert min(outcomes["slow"].seconds) >= 0.02
    assert min(outcomes["quick, with an option"].seconds) >= 0.01
    assert 0.002 <= min(outcomes["quick"].seconds) < 0.01
    assert outcomes["slow"].check == {"energy": [1.0]}
    assert "no such crystal" in outcomes["broken"].as_dict()["error"]


def test_an_objection_to_what_was_computed_stops_the_race(start):
    with start("quick", 0.002) as quick:
        contestants = {name: Contestant(quick, "sleep", Path("none")) for name in ("one", "other")}
        seen = {}

        def objection(outcomes):
            seen.update({name: outcome.check["energy"] for name, outcome in outcomes.items()})
            return "they differ"

        outcomes = race(contestants, repeats=3, seconds=0.01, objection=objection)
    assert seen == {"one": [1.0], "other": [1.0]}
    assert {outcome.as_dict()["error"] for outcome in outcomes.values()} == {"they differ"}
    assert not any(outcome.seconds for outcome in outcomes.values())


def test_a_side_that_dies_says_why(tmp_path):
    with pytest.raises(SideError, match="no module named nowhere"):
        Side("dead", [sys.executable, "-c", "raise SystemExit('no module named nowhere')"], 1, tmp_path / "dead.log")
