"""How a student is trained: one file a method, stages built from losses."""

from kdnb.methods.registry import Method, catalogue, get, method

__all__ = ["Method", "catalogue", "get", "method"]
