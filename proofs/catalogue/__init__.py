"""The catalogue of exact claims, one file per subject: pure data, so that listing it imports nothing heavy.

Each claim names the function that decides it and false twins: wrong statements that the same function, given other
parameters, has to refute.
"""
