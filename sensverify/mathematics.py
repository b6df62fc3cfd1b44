"""Mathematics for the page: LaTeX to MathML, which browsers draw by themselves, and readable numbers.

:func:`display` and :func:`prose` always return safe markup. LaTeX that cannot be translated is shown as it
was written: an unreadable formula is a blemish, a wrong one is an error.

latex2mathml writes MathML 3 and unescaped text. Browsers draw MathML Core, so its element tree is tidied
here: letters of another alphabet become their own characters, norm bars open and close, function names take
the space of a function, and only attributes that draw something are kept.
"""

from __future__ import annotations

import html
import itertools
import re
import unicodedata
from xml.etree import ElementTree as ET

from latex2mathml.converter import convert_to_element
from markupsafe import Markup, escape

from sensverify.numerals import as_written_here

_ATTRIBUTES = frozenset(
    """accent columnalign depth display displaystyle fence form height linethickness lspace mathvariant
    maxsize minsize movablelimits rspace scriptlevel stretchy voffset width""".split()  # noqa: SIM905 - reads better
)
# latex2mathml has no aligned environments and no \arg, and reads starred or spaced operator names letter by letter.
_REWRITES = (
    (re.compile(r"\\arg\s*\\(min|max)(?![A-Za-z])"), r"\\operatorname{arg\1}"),
    (re.compile(r"\\(begin|end)\{(?:aligned|alignedat|gathered)\}"), r"\\\1{split}"),
    (re.compile(r"\\operatorname\*?\{([A-Za-z]+)(?:\\,|\\ |~)?([A-Za-z]*)\}"), r"\\operatorname{\1\2}"),
)
_SIZED = re.compile(r"\\[bB]igg?([lrm]?)(?![A-Za-z])")
_ALPHABETS = {
    "bold": "BOLD",
    "italic": "ITALIC",
    "bold-italic": "BOLD ITALIC",
    "double-struck": "DOUBLE-STRUCK",
    "script": "SCRIPT",
    "fraktur": "FRAKTUR",
    "sans-serif": "SANS-SERIF",
    "monospace": "MONOSPACE",
}
_BARS = frozenset("|‖∥∣")
_OPENING, _CLOSING = frozenset("([{⟨⌊⌈|‖∥"), frozenset(")]}⟩⌋⌉!′")
_LIMITS = frozenset(["∑", "∏", "⋃", "⋂", "max", "min", "sup", "inf", "lim", "lim sup", "lim inf", "argmax", "argmin"])
_SCRIPTS = {"msub": 2, "msup": 2, "msubsup": 3, "munder": 2, "mover": 2, "munderover": 3}
_CHILDREN = {"mfrac": 2, "mroot": 2, **_SCRIPTS}
_INLINE = re.compile(r"\$(?P<latex>[^$\n]+)\$|`(?P<code>[^`\n]+)`")


class UntranslatableError(ValueError):
    """LaTeX that latex2mathml does not know."""


def mathml(latex: str, *, block: bool = False) -> Markup:
    """``latex`` as a ``<math>`` element.

    Raises :class:`UntranslatableError` for LaTeX that is malformed or uses an unknown command.
    """
    try:
        root = convert_to_element(_rewritten(latex), display="block" if block else "inline")
    except Exception as error:  # latex2mathml raises its own and many built-in exceptions for bad input
        raise UntranslatableError(f"{type(error).__name__}: {latex}") from error
    for element in root.iter():
        _tidy(element)
    for element in root.iter():
        _mark_operators(element)
        _pair_bars(element)
        _place_signs(element)
        _space_functions(element)
        _place_limits(element)
    return Markup(ET.tostring(root, encoding="unicode"))


def display(latex: str) -> Markup:
    """``latex`` as a formula on its own line, or as code if it cannot be translated."""
    try:
        return mathml(latex, block=True)
    except UntranslatableError:
        return Markup("<code>{}</code>").format(latex)


def prose(text: str) -> Markup:
    """``text`` with ``$latex$`` as formulas, backticked words as code and numbers in one form; all is escaped."""
    parts: list[Markup] = []
    end = 0
    for match in _INLINE.finditer(text):
        parts.append(escape(as_written_here(text[end : match.start()])))
        parts.append(_inline(match))
        end = match.end()
    return Markup("").join([*parts, escape(as_written_here(text[end:]))])


def _inline(match: re.Match[str]) -> Markup:
    if match["code"] is not None:
        return Markup("<code>{}</code>").format(match["code"])
    try:
        return mathml(match["latex"])
    except UntranslatableError:
        return Markup("<code>{}</code>").format(match[0])


def _rewritten(latex: str) -> str:
    """``latex`` in the commands that latex2mathml knows: sized brackets grow like ``\\left(``."""
    for pattern, replacement in _REWRITES:
        latex = pattern.sub(replacement, latex)
    sides = [match[1] for match in _SIZED.finditer(latex)]
    paired = sides.count("l") == sides.count("r")
    names = {"l": r"\left", "r": r"\right"} if paired else {}
    return _SIZED.sub(lambda match: names.get(match[1], ""), latex)


def _tidy(element: ET.Element) -> None:
    """Make one element plain MathML Core: real characters, known attributes, no leftover commands."""
    text = html.unescape(element.text or "")
    if element.tag == "mtext":
        text = re.sub(r"\\([&%$#_{} ])", r"\1", text)
    if "\\" in text:
        raise UntranslatableError(f"unknown command in {text}")
    if len(element) != _CHILDREN.get(element.tag, len(element)):
        raise UntranslatableError(f"{element.tag} with {len(element)} parts")
    variant = element.attrib.get("mathvariant", "")
    if variant in _ALPHABETS:
        text = "".join(_letter(character, _ALPHABETS[variant]) for character in text)
    element.text = text or None
    element.attrib = {
        name: value
        for name, value in element.attrib.items()
        if name in _ATTRIBUTES and (name != "mathvariant" or value == "normal")
    }
    if element.tag == "mo" and len(text) > 1 and text.replace(" ", "").isalpha():
        element.tag = "mi"  # \operatorname: a name, not an operator with an operator's wide spaces


def _letter(character: str, alphabet: str) -> str:
    """The character of a mathematical alphabet, e.g. the bold of ``1``; itself where there is none."""
    name = unicodedata.name(character, "").replace("LATIN ", "").replace(" LETTER", "")
    for candidate in (f"MATHEMATICAL {alphabet} {name}", f"{alphabet} {name}"):
        try:
            return unicodedata.lookup(candidate)
        except KeyError:
            continue
    return character


def _mark_operators(row: ET.Element) -> None:
    """Make brackets and relations that came as identifiers operators, of the height of a letter."""
    if row.tag in _CHILDREN:
        return
    for child in row:
        core = _core(child)
        text = core.text or ""
        is_sign = len(text) == 1 and (text == ":" or unicodedata.category(text)[0] in "PS")
        if core.tag == "mi" and is_sign and text not in "′…⋯◻∞":
            core.tag = "mo"
        if core.tag == "mo" and text in _OPENING | _CLOSING and "form" not in core.attrib:
            core.attrib.setdefault("stretchy", "false")
    if row.tag == "mrow" and len(row) == 1 and row[0].tag == "mo":
        row[0].attrib.update(lspace="0", rspace="0")


def _pair_bars(row: ET.Element) -> None:
    """Tell the bars of ``|x|`` and ``‖x‖`` in one row apart: opening, closing, opening, closing."""
    if row.tag in _SCRIPTS:
        return
    cores = [core for child in row if (core := _core(child)).tag == "mo" and "form" not in core.attrib]
    for character in _BARS:
        bars = [core for core in cores if core.text == character]
        if len(bars) % 2 == 0:  # an odd bar is a separator, as in P(a|b), or marks a restriction
            for position, bar in enumerate(bars):
                form = "postfix" if position % 2 else "prefix"
                bar.attrib.update(form=form, stretchy="false", lspace="0", rspace="0")


def _place_signs(row: ET.Element) -> None:
    """A minus after a relation or an opening bracket is a sign, without the space of a subtraction."""
    for before, child in itertools.pairwise(row):
        core = _core(before)
        opens = core.tag == "mo" and core.text not in _CLOSING and core.attrib.get("form") != "postfix"
        if child.tag == "mo" and child.text in ("−", "+", "±") and opens:
            child.attrib["form"] = "prefix"


def _place_limits(element: ET.Element) -> None:
    """Put the bounds of sums and maxima below and above where there is room."""
    limits = {"msub": "munder", "msup": "mover", "msubsup": "munderover"}
    if element.tag in limits and element[0].text in _LIMITS:
        element.tag = limits[element.tag]
        if element[0].tag == "mi":
            element[0].tag = "mo"
            element[0].attrib.update(lspace="0", rspace="0.17em")
        element[0].attrib["movablelimits"] = "true"


def _space_functions(row: ET.Element) -> None:
    """A thin space after ``log``, ``arccos``, ``max`` unless a bracket follows."""
    for position, child in reversed(list(enumerate(row))[:-1]):
        core = _core(child)
        is_name = core.tag == "mi" and len(core.text or "") > 1 and row.tag not in _SCRIPTS
        following = _core(row[position + 1])
        if is_name and (following.text or "") not in _OPENING and following.tag != "mo":
            row.insert(position + 1, ET.Element("mspace", width="0.17em"))


def _core(element: ET.Element) -> ET.Element:
    """The operator or name that carries the scripts of ``element``."""
    while element.tag in _SCRIPTS and len(element):
        element = element[0]
    return element
