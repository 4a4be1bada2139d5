"""Any text as LaTeX in plain ASCII, so that it needs no package, no encoding and no font of its own."""

from __future__ import annotations

import re
from unicodedata import category, normalize

_NAMES = r"""
_ \_  % \%  & \&  # \#  $ \$  { \{  } \}  ~ \textasciitilde{}  ^ \textasciicircum{}  \ \textbackslash{}
< \textless{}  > \textgreater{}  | \textbar{}  " ''  ` \`{}  [ {[}  ] {]}  * {*}
… \ldots{}  – --  — ---  − $-$  ‘ `  ’ '  “ ``  ” ''  „ ,,  ‐ -  ‑ -  « $\ll$  » $\gg$
× $\times$  ± $\pm$  · $\cdot$  ≤ $\leq$  ≥ $\geq$  ≠ $\neq$  ≈ $\approx$  → $\rightarrow$  ← $\leftarrow$
∞ $\infty$  √ $\surd$  ✓ $\surd$  † $^{\dagger}$  ‡ $^{\ddagger}$  • $\bullet$  ° $^{\circ}$  ² $^{2}$  ³ $^{3}$
µ $\mu$  α $\alpha$  β $\beta$  Δ $\Delta$  λ $\lambda$  € EUR  £ \pounds{}  § \S{}  © \copyright{}
ß \ss{}  æ \ae{}  Æ \AE{}  œ \oe{}  Œ \OE{}  ø \o{}  Ø \O{}  ł \l{}  Ł \L{}  ı \i{}
"""
_NAMED: dict[str, str] = dict(re.findall(r"(\S) (\S+)", _NAMES))
"""Brackets and stars are in braces: at the beginning of a row they would be arguments of the \\\\ before it."""
_MARKS = "\u0300\u0301\u0302\u0303\u0308\u0304\u0307\u0306\u030c\u030b\u0327\u0323\u0331\u030a"
_ACCENTS = dict(zip(_MARKS, "`'^~\"=.uvHcdbr", strict=True))
"""Combining marks, and the commands that set them."""
_DOTLESS = {"i": r"\i", "j": r"\j"}
_MAY_BREAK = re.compile(r"(?<=[/_,=+(:-])(?=.)")
_LONG = 24


def escape(text: str) -> str:
    """The text as it stands, in one line. A letter that has no name here is told by its number: `[U+4E2D]`."""
    flat = " ".join(normalize("NFC", text).split())
    made = (_apart(before, char) + _char(char) for before, char in zip(f" {flat}", flat, strict=False))
    return "".join(made).replace(r" \%", r"~\%")


def breakable(text: str) -> str:
    """The same, with places to break a line in long words, such as paths."""
    return " ".join(
        r"\allowbreak{}".join(map(escape, _MAY_BREAK.split(word))) if len(word) > _LONG else escape(word)
        for word in text.split()
    )


def _apart(before: str, char: str) -> str:
    """What keeps two hyphens, quotes or commas from becoming another sign."""
    return "{}" if before == char and char in "-'," else ""


def _char(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    if char.isascii():
        return char if char.isprintable() else ""
    base, *marks = list(normalize("NFD", char))
    if marks and all(mark in _ACCENTS for mark in marks):
        made = _DOTLESS.get(base, _char(base))
        for mark in marks:
            made = f"\\{_ACCENTS[mark]}{{{made}}}"
        return made
    if category(char).startswith(("C", "M")):
        return "" if category(char) in ("Cc", "Cf") else _numbered(char)
    same = normalize("NFKC", char)
    return _numbered(char) if same == char else "".join(map(_char, same))


def _numbered(char: str) -> str:
    return f"{{[}}U+{ord(char):04X}{{]}}"
