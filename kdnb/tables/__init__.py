"""Tables of the book: numbered, with a caption, a CSV to download, and the runs behind their numbers."""

from kdnb.tables.certainty import certainty
from kdnb.tables.claims import claims
from kdnb.tables.costs import costs
from kdnb.tables.coverage import coverage, register
from kdnb.tables.evidence import evidence
from kdnb.tables.flows import flows
from kdnb.tables.front import answer, front
from kdnb.tables.in_short import Sentences, in_short
from kdnb.tables.landing import landings
from kdnb.tables.ledger import ledger, withdrawn
from kdnb.tables.method import parameters, selection
from kdnb.tables.outcome import outcome
from kdnb.tables.patience import beside_longer, lasting
from kdnb.tables.prints import printed_twice
from kdnb.tables.ranking import again, choices, ranking, search, standing
from kdnb.tables.results import pairs, results
from kdnb.tables.runs import first_steps, runs, runs_contents
from kdnb.tables.schedules import differences
from kdnb.tables.sheet import Entry, Table
from kdnb.tables.speed import conformity, method_costs, speed, step_costs

__all__ = [
    "Entry",
    "Sentences",
    "Table",
    "again",
    "answer",
    "beside_longer",
    "certainty",
    "choices",
    "claims",
    "conformity",
    "costs",
    "coverage",
    "differences",
    "evidence",
    "first_steps",
    "flows",
    "front",
    "in_short",
    "landings",
    "lasting",
    "ledger",
    "method_costs",
    "outcome",
    "pairs",
    "parameters",
    "printed_twice",
    "ranking",
    "register",
    "results",
    "runs",
    "runs_contents",
    "search",
    "selection",
    "speed",
    "standing",
    "step_costs",
    "withdrawn",
]
