"""The language model shipped in the package: a small GPT-NeoX trained on six public-domain novels.

Importing this module is cheap (no torch); it only says where the files lie. The folder is in Hugging Face
layout, so ``AutoModelForCausalLM.from_pretrained(FOLDER)`` and ``AutoTokenizer.from_pretrained(FOLDER)`` open
it without a network. ``README.md`` beside this file is the model card.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent
"""The folder in Hugging Face layout."""

HELD_OUT_PAGES = FOLDER / "held_out_pages.txt"
"""Pages the model was not trained on: one document per novel, a line holding one form feed between them."""

END_OF_TEXT = "<|endoftext|>"
"""The one special token; it also opens every window, so it doubles as the beginning-of-sequence token."""
