"""Experiments, records, the store, and what may be said of them."""
