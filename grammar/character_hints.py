"""What to write instead of a character that has no meaning."""

from __future__ import annotations

import unicodedata


def character_hint(symbol: str) -> str | None:
    """Return a suggestion, None where there is none.

    Example:
        >>> character_hint("√"), character_hint("ẋ")
        ('write sqrt(...)', 'write d_t x')
    """
    decomposed = unicodedata.normalize("NFD", symbol)
    if len(decomposed) == 2 and decomposed[1] in "\u0307\u0308":
        return f"write d_t {decomposed[0]}" if decomposed[1] == "\u0307" else f"write d_tt {decomposed[0]}"
    if len(decomposed) == 2 and decomposed[0].isalpha():
        return "declare a plain name, such as u_mean"
    return {
        "±": "write two equations",
        "∓": "write two equations",
        **dict.fromkeys("≡~∝≈→", "an equation is written with '='"),
        "?": "write where(u > 0, a, b)",
        "∛": "write u^(1/3)",
        "∑": "write sum_i(…), with an index i … n",
        "∏": "write the product out",
        **dict.fromkeys("⟨⟩", "write dot(a, b) or a·b"),
        "∀": "leave out where the equation holds",
        "\\": "a LaTeX command needs letters, such as \\partial; leave out \\( and \\)",
        "!": "comparisons are written !=; factorials are not supported",
        "@": "write dot(a, b) or a·b",
        "%": "comments start with #",
        "∫": "integrals are not part of the language",
        "∞": "there is no infinity",
        "&": "only LaTeX text uses & to align",
        "$": "leave the dollar signs out",
        ".": "write dot(a, b) or a·b for a product; a decimal point needs a digit",
        "√": "write sqrt(...)",
    }.get(symbol)
