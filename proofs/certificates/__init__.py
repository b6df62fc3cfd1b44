"""Certificates of small numbers: formulas, models and refutations that others can check without a SAT solver."""
