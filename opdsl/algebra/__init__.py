"""Exact polynomials and derivative spaces."""
