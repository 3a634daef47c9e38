"""The vocabulary of claims: what printed numbers say to one, and how a verdict is worded at which scale."""

from __future__ import annotations

#: Three-valued: True, False, or None where the evidence cannot tell.
Truth = bool | None

#: The row whose runs are constants: it taught the others.
TEACHER = "teacher"

#: Of printed numbers.
HOLDS, FAILS, MIXED, OPEN = "holds", "fails", "mixed", "open"

#: How a truth is worded under each profile; a demo says nothing, whatever it shows.
WORDS: dict[str, dict[Truth, str]] = {
    "paper": {True: "confirmed", False: "contradicted", None: "undetermined"},
    "short": {True: "agrees at that scale", False: "disagrees at that scale", None: "undetermined"},
    "pilot": {True: "agrees at that scale", False: "disagrees at that scale", None: "undetermined"},
}
#: Where runs contradict a claim only as we read what the paper does not say.
OUR_READING = "disagrees under our reading"
NOT_MEASURED = "not measured"
JUDGEMENT = "a judgement"
NO_VERDICT = "no verdict"
