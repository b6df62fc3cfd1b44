"""Verification at scale: the discovery engine on GPT-NeoX language models, judged against predictions."""

from pythia.claims import claims

__all__ = ["claims"]
