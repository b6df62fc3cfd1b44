"""The suite of exact claims, in the order in which they are listed."""

from __future__ import annotations

from proofs.catalogue import colouring, layer_norm, relative_norm, sensitivity
from sensverify.claims import Suite

claims = Suite(claims=(*layer_norm.CLAIMS, *relative_norm.CLAIMS, *sensitivity.CLAIMS, *colouring.CLAIMS))
