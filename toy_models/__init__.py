"""Toy superposition models, where the true features are known, and the predictions they make."""

from toy_models.claims import claims

__all__ = ["claims"]
