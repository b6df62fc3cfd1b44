"""The exact claims: proved symbolically, tested to breaking, or refuted with a witness."""

from proofs.claims import claims

__all__ = ["claims"]
