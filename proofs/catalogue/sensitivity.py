"""Sensitivity: its range, its second order, its asymmetry, its concentration (SE-1 to SE-5)."""

from __future__ import annotations

from sensverify.claims import Claim

CLAIMS: tuple[Claim, ...] = ()
