"""Profiles: how much of a protocol is run."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from fractions import Fraction

from kdnb.errors import unknown
from kdnb.methods.recipe import shortened


@dataclass(frozen=True)
class Profile:
    """One factor on every count of epochs, and at most so many of them in a stage.

    `scale` says which networks and images stand for the paper's; an override of the epochs keeps it.
    `student_images` limits what a student may learn from to a fixed class-balanced subset.
    """

    name: str
    factor: Fraction
    at_most: int | None = None
    student_images: int | None = None
    scale: str = ""

    @property
    def embedded_data(self) -> bool:
        """Whether the embedded digits stand for the paper's images."""
        return self.scale == "demo"

    def scaled(self, epochs: int) -> int:
        """A count of epochs under the profile's factor: rounded up, and at least 1."""
        return shortened(epochs, self.factor)

    def limited(self, epochs: int | None) -> Profile:
        """The same with at most `epochs` a stage: a profile `custom-<hash>`, which no table shows."""
        if epochs is None:
            return self
        key = f"{self.name}:{epochs}"
        name = f"custom-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
        return dataclasses.replace(self, name=name, at_most=epochs)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("demo", Fraction(1), at_most=10, student_images=250, scale="demo"),
        Profile("pilot", Fraction(1, 8), student_images=10_000, scale="pilot"),
        Profile("short", Fraction(1, 4), scale="short"),
        Profile("paper", Fraction(1), scale="paper"),
    )
}


def get_profile(name: str | Profile) -> Profile:
    """The profile of a name, or the profile itself; an unknown name is an error that names the nearest."""
    if isinstance(name, Profile):
        return name
    if not isinstance(name, str) or name not in PROFILES:
        raise unknown("profile", name, PROFILES)
    return PROFILES[name]
