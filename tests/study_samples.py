"""Small experiments for tests: real ones, on the embedded digits, seconds long."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

from kdnb.exhibits import comparison
from kdnb.study.experiment import Experiment
from kdnb.study.profile import Profile

TINY = Profile("custom-test", Fraction(1), at_most=2, student_images=150, scale="demo")


def experiment(key: str, profile: Profile = TINY, **changes: object) -> Experiment:
    """A row of the comparison's table on few digits for two epochs."""
    built = comparison.build(comparison.TABLE_1.row(key), profile, "digits")
    return dataclasses.replace(built, **changes) if changes else built
