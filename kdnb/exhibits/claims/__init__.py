"""Claims: checkable statements, the evidence for them, and verdicts that carry their scale."""
