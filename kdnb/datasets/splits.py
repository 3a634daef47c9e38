"""The fixed halves of the test sets, pinned by digest so that no later version draws others unnoticed.

`labels` is the digest of the test labels in canonical order: a pin speaks only of the published images, not
of a part of them. All three are `digest_of_indices`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Halves:
    """Digests of a split's labels and of the two lists of indices that halve it."""

    labels: str
    validation: str
    test: str


def halves_key(dataset: str) -> str:
    """The key that draws a data set's halves.  It decides which images they hold, so it stays as it first was."""
    return f"comparison/{dataset}"


PINNED = {
    halves_key("digits"): Halves(
        labels="d49e6949c0fc6a87fca17a92ad6dc65296297d4d61cef857ff136c4227324bc6",
        validation="2252658815334c00c1eac5d69190987379b1ff64b36dc904145cf1e4833c3bfd",
        test="90fd8c383b67fd236fd050a5d5f55ba9cb3cbf7ec4a9b98dc4ed9f02d35eade7",
    ),
    halves_key("cifar10"): Halves(
        labels="577506ff50b454fe2c5f28eefe904d7b56463c34cddee6ecccf4d65fefb0c285",
        validation="a9fa0cb5f1ecfac1a3cf3ccf071e4115342b79a23a0e536ee1bacd2e2e6947b1",
        test="6c1d814cf0767566773b9c193a72e4dc5a2d7b67f765f810b8d6f7cbad486059",
    ),
    halves_key("cifar100"): Halves(
        labels="1fc80fd7ba40f5d18a97f46619b97620b0ac1603e8467dadd646b81d5d3bd373",
        validation="5159dc9fa9442c0000eb47c7d02d82820b316d5a089734301e9db2f8efd2e454",
        test="be78c8e1eb3e92585d8d2a013e837b93e3258999d549cf4066f7fe373d73c4d9",
    ),
}
