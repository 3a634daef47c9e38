"""The plain network: labels and nothing else.  Teachers are trained this way too."""

from __future__ import annotations

from kdnb.methods.registry import method
from kdnb.methods.stage import Setup, Stage, Supervision


@method("plain", revision=1, needs_teacher=False)
def plain(setup: Setup) -> list[Stage]:
    """L = CE(z_S, y)."""
    return [setup.training(Supervision())]
