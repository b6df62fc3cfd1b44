"""The colours of figures: Okabe and Ito's, which colour-blind readers can tell apart, and two stand-ins.

The stand-ins are exchanged for the page's own ink and rule colour when a figure is put on it; the series have page
colours too, one for a light page and one for a dark one.
"""

from __future__ import annotations

INK, RULE = "#010203", "#040506"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#b0619a", "#a67c00", "#5f6773")
