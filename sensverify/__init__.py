"""sensverify: claims about features in language models, stated, proved, tested and attacked.

Importing the package, and asking the command line for help or for the list of claims, never imports torch:
heavy modules are imported where they are used.
"""

__version__ = "0.1.0"
