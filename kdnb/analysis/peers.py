"""Networks that teach each other: the one that is no run's student is measured beside it."""

from __future__ import annotations

from kdnb.analysis.registry import Found, Observed, Subject, measure


@measure("peer", metrics=("peer",), needs=("modules",))
def peer(subject: Subject) -> Found:
    """The share of the images that score which the peer has right, with the weights of the last epoch."""
    from kdnb.evaluation.correct import correct
    from kdnb.models.network import Network

    network = subject.modules["peer"]
    assert isinstance(network, Network)
    outputs = Observed(network, subject.student.images).outputs
    return {}, {"peer": float(correct(outputs.logits, subject.labels)[subject.score].mean())}
