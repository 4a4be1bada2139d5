"""Does a run of ours say what a paper says? One of four words for each published number, and why.

Only a run in the paper's setting can answer that: the same family and size of the model, data, split, K, candidates,
and what else the protocol fixes. Where there is none, the answer is "not attempted", with the differences of the run
that comes nearest. A drawn sample of the split is a sample of the same questions, so it is no difference, but it is
said. A short training budget is one: a model that was stopped early says nothing of a number that was not. So are
hyperparameters that were given by hand, unless the paper tells them. An impossible number is no target.

The three other words come from the interval of our score minus the paper's, after the two one-sided tests of
equivalence (Schuirmann 1987; Lakens 2017 reads the same interval in both ways):

    reproduced        the whole interval lies within the tolerance
    not reproduced    the whole interval lies outside it
    inconclusive      neither: more questions would tell

The interval of several runs of ours is over seeds and users both; that of one says nothing of other seeds.

The paper's number is of a sample, too. Where it is known how many questions it rests on, its own error is in that
interval, put together with ours as by Zou and Donner (2008, "MOVER"). It is not added to the tolerance: a number of
twenty questions would then be reproduced by everything. Errors are taken as independent, which is on the safe side
where both answered the same questions. Of the paper's only an upper bound is known: v (1 - v) / n is the largest
variance of a mean of n numbers between 0 and 1, and with n of the rarer label no smaller than that of an AUC (Birnbaum
and Klose 1957). Where a user has several questions it is no bound, and the paper's error is larger than it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import NormalDist
from typing import NamedTuple

from harness import registry
from harness.scoring import aligned
from harness.seeds import over_seeds
from harness.stats import LEVEL, TOO_FEW
from leaderboard.collect import Entry
from leaderboard.differences import differences, is_of_family
from leaderboard.published import Published
from leaderboard.sheet import Verdict


@dataclass(frozen=True)
class Tolerance:
    """How far from the paper's number is still the same number.

    A twentieth of it is what other seeds, libraries and drawn candidates move a score by: RecBole's SASRec on Beauty
    has been published with HR@10 of 0.0821, 0.083 and 0.0842. Scores are printed to few places, so 0.01 is as good as
    nothing where that is more; but never more than a tenth of the number, or 0.01 would be half of an HR@10 of 0.02.
    """

    relative: float = 0.05
    absolute: float = 0.01
    at_most: float = 0.10
    """Of the number."""

    def around(self, value: float) -> float:
        """The largest difference from `value` that counts as none."""
        return min(max(self.relative * value, self.absolute), self.at_most * value)


TOLERANCE = Tolerance()


class Measured(NamedTuple):
    """What we have of a number: our score, and how sure it is."""

    value: float
    low: float
    high: float
    """nan where the interval is undefined."""
    who: str


def verdict(number: Published, entries: Sequence[Entry], tolerance: Tolerance = TOLERANCE) -> Verdict:
    """What the runs of a standing say of a number. Several that match are runs of the same, such as other seeds, and
    their mean is what is compared, so that none is picked; while one of them lacks a score there is no mean."""
    if number.impossible:
        return Verdict("not attempted", f"the number is impossible: {number.defects[0]}")
    runs = [entry for entry in entries if is_of_family(number, entry)]
    if not runs:
        return Verdict("not attempted", f"no run of {' or '.join(number.family)}")
    found = [(entry, differences(number, entry)) for entry in runs]
    same = [entry for entry, apart in found if not apart]
    if not same:
        nearest, apart = min(found, key=lambda one: len(one[1]))
        return Verdict("not attempted", f"differs in {'; '.join(apart)} ({nearest.model})")
    lacking = [entry for entry in same if (entry.metric(number.metric) or {}).get("value") is None]
    if lacking:
        of = f"{len(lacking)} of {len(same)} runs: " if len(same) > 1 else ""
        return Verdict("not attempted", f"{of}{_lack(lacking[0])} ({lacking[0].model})")
    measured = _measured(number, same)
    if measured is None:
        return Verdict("inconclusive", f"there is no interval: too few users or questions ({same[0].model})")
    return _judged(number, measured, tolerance, same[0])


def verdicts(
    numbers: Sequence[Published], entries: Sequence[Entry], tolerance: Tolerance = TOLERANCE
) -> list[tuple[Published, Verdict]]:
    """Each number with its verdict, in their order."""
    return [(number, verdict(number, entries, tolerance)) for number in numbers]


def overall(found: Sequence[tuple[Published, Verdict]]) -> Verdict:
    """One verdict for a row of several metrics, since a table may have room for one word only.

    The word is about all numbers of the row: "reproduced" if every one is, "not reproduced" if any one is not, "not
    attempted" if none was, and "inconclusive" in all other cases, as where one is reproduced and the rest were not
    attempted. A number that is impossible was not attempted. Unless all have one reason, each is named with its own.
    Raises ValueError without a verdict.
    """
    if not found:
        raise ValueError("a row without a number has no verdict")
    reasons: dict[tuple[str, str], list[str]] = {}
    for number, one in found:
        reasons.setdefault((one.word, one.why), []).append(number.metric)
    if len(reasons) == 1:
        return found[0][1]
    why = "; ".join(f"{', '.join(names)}: {what}, {reason}" for (what, reason), names in reasons.items())
    words = {one.word for _, one in found}
    if "not reproduced" in words:
        return Verdict("not reproduced", why)
    return Verdict(words.pop() if len(words) == 1 else "inconclusive", why)


def gap(ours: Measured, paper: float, half: float) -> tuple[float, float]:
    """The interval of ours minus the paper's, whose own is `half` wide on either side; 0 if it is not known."""
    middle = ours.value - paper
    below, above = max(ours.value - ours.low, 0.0), max(ours.high - ours.value, 0.0)
    return middle - sqrt(below**2 + half**2), middle + sqrt(above**2 + half**2)


def paper_half(number: Published) -> float:
    """Half the width of the paper's own 95 % interval, at most; 0 where the number of its questions is not known."""
    about_labels = number.metric.startswith(("AUC", "UserAUC"))
    count = number.rarer if about_labels else number.instances
    if count is None or not 0 < number.value < 1:
        return 0.0
    return NormalDist().inv_cdf((1 + LEVEL) / 2) * sqrt(number.value * (1 - number.value) / count)


def _judged(number: Published, measured: Measured, tolerance: Tolerance, entry: Entry) -> Verdict:
    half, allowed = paper_half(number), tolerance.around(number.value)
    low, high = gap(measured, number.value, half)
    said = [
        f"{measured.who}: {measured.value:.4f} [{measured.low:.4f}, {measured.high:.4f}], which is "
        f"{measured.value - number.value:+.4f} [{low:+.4f}, {high:+.4f}] from the paper's; tolerance {allowed:.4f}"
    ]
    said += [f"the paper's error on its own questions, {half:.4f} at most, is in the second interval"] if half else []
    sample = entry.manifest.get("sample")
    said += [f"on a sample of {sample['size']} of the split"] if sample else []
    why = "; ".join(said)
    if -allowed <= low and high <= allowed:
        return Verdict("reproduced", why)
    if low > allowed or high < -allowed:
        return Verdict("not reproduced", why)
    return Verdict("inconclusive", why)


def _measured(number: Published, entries: Sequence[Entry]) -> Measured | None:
    if len(entries) == 1:
        (entry,) = entries
        found = entry.metric(number.metric) or {}
        low, high = found.get("low"), found.get("high")
        return None if low is None or high is None else Measured(found["value"], low, high, entry.model)
    metric = next(one for one in registry.task_kind(number.task).metrics if one.name == number.metric)
    rows = aligned([entry.path for entry in entries], [metric]).get(number.metric)
    if rows is None:
        return None
    made = over_seeds(metric, *rows)
    if made.units < TOO_FEW or not isfinite(made.low) or not isfinite(made.high):
        return None
    return Measured(made.mean, made.low, made.high, f"the mean of {len(entries)} runs, such as {entries[0].model}")


def _lack(entry: Entry) -> str:
    if entry.scores is None:
        return "the run is not complete"
    return str(entry.scores.get("not_applicable", "the run has no value of this metric"))
