"""What a model is called in what is written for others to read.

A result is passed on, and the folders in which its author keeps models are nobody's business. So of a local model only
its own name is told; a model of the hub is called by its full name, by which anyone finds it.
"""

from __future__ import annotations

import os
from pathlib import Path


def public_name(model: str) -> str:
    """The last part of the path ``model`` if there is a file or folder, ``model`` itself if there is none."""
    return Path(os.path.abspath(model)).name if Path(model).exists() else model
