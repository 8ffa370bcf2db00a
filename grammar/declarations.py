"""Declared names: reading ``coords="t x y"``, ``fields="u[3] p"``, ``params="?nu b[2] a_ij"``, and splitting suffixes.

Greek letters and their names are one name (``ν`` = ``nu`` = ``\\nu``). Look-alikes are folded here, one character for one
character, so that positions in the text stay what they are; never by Unicode normalisation, which reads ``∂²`` as ``∂2``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from opdsl.errors import OpLimitError, OpNameError, OpSyntaxError, Span
from opdsl.language.declarations import CoordinateDecl, Declarations, Dim, FieldDecl, ParamDecl

MAX_DIMENSION = 10_000_000
MAX_ORDER = 64
INDEX_LETTERS = frozenset("ijklmn")

GREEK = dict(
    zip(
        "αβγδεζηθικλμνξοπρςστυφχψωΓΘΛΞΠΣΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma sigma tau upsilon "
        "phi chi psi omega Gamma Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        strict=True,
    )
)
# Bold, italic and script letters: 𝐮, 𝑢, 𝛁, 𝜕.
_STYLED = {chr(k): c for k in range(0x1D400, 0x1D800) if len(c := unicodedata.normalize("NFKC", chr(k))) == 1 and c != chr(k)}
# One character for one character: spans stay valid.
_FOLDED = (
    {
        "µ": "μ", "ϕ": "φ", "ϵ": "ε", "ϑ": "θ", "ϱ": "ρ", "ϖ": "π", "ϰ": "κ", "ς": "σ", "∆": "Δ", "△": "Δ", "𝛻": "∇", "𝜕": "∂",
        "⋅": "·", "∙": "·", "•": "·", "−": "-", "–": "-", "—": "-", "﹣": "-", "⁄": "/", "÷": "/", "∕": "/", "∗": "*", "⋆": "*",
        "′": "'", "’": "'", "‘": "'", "ʹ": "'", "″": '"', "‴": "‴", "∣": "|", "❘": "|", "∥": "‖", "\u00a0": " ", "\u2009": " ",
        "\u200a": " ", "\u202f": " ", "\u2003": " ", "\u2002": " ", "\t": " ", "\r": " ", "ℏ": "ħ", "⨯": "×", "✕": "×", "◻": "□", "⊺": "⊤",
        "，": ",", "；": ";", "（": "(", "）": ")", "＝": "=", "＋": "+", "：": ":", "∶": ":", "ℎ": "h",
    }
)  # fmt: skip
FOLD = str.maketrans({char: _FOLDED.get(letter, letter) for char, letter in _STYLED.items()} | _FOLDED)
SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+", strict=True))
SUBSCRIPTS = dict(
    zip("₀₁₂₃₄₅₆₇₈₉ₐₑₒₓₕₖₗₘₙₚₛₜᵢᵣᵤᵥⱼᵦᵧᵨᵩᵪ", [*"0123456789aeoxhklmnpstiruvj", "beta", "gamma", "rho", "phi", "chi"], strict=True)
)


_SPELT = {"ħ": "hbar", "∞": "inf"}


def index_letters(text: str) -> str:
    """The letters of a subscript that holds nothing but index letters; "" for any other.

    Example:
        >>> index_letters("i j"), index_letters("k,l"), index_letters("ix")
        ('ij', 'kl', '')
    """
    letters = re.sub(r"[\s,]", "", text)
    return letters if set(letters) <= INDEX_LETTERS else ""


def fold(text: str) -> str:
    """Fold look-alike characters, one for one.

    Example:
        >>> fold("µ∆u − 1")
        'μΔu - 1'
    """
    return text.translate(FOLD)


def ascii_name(name: str) -> str:
    """Write Greek letters of a name out: ``ψ_t`` → ``psi_t``, ``hbar`` for ħ.

    Example:
        >>> ascii_name("ν"), ascii_name("θ_0"), ascii_name("uₓₓ")
        ('nu', 'theta_0', 'u_xx')
    """
    if name.isascii():
        return name
    out: list[str] = []
    in_subscript = False
    for char in name:
        if char in SUBSCRIPTS:
            out.append(("" if in_subscript else "_") + SUBSCRIPTS[char])
            in_subscript = True
            continue
        in_subscript = False
        out.append(_SPELT.get(char) or GREEK.get(char, char))
    return "".join(out)


# --------------------------------------------------------------------------------------------- reading declarations
# Superscripts count as letters for Python's ``\\w``, so the alphabet is spelled out.
LETTER = "A-Za-z" + "".join(GREEK) + "ħ"
_NAME = rf"[{LETTER}][{LETTER}0-9_{''.join(SUBSCRIPTS)}]*(?:_∞)?"
_ITEM = re.compile(
    rf"(?P<mark>\?)?(?P<name>{_NAME})(?P<prime>'*)\s*(?:\[(?P<shape>[^\]]*)\])?(?:\s*:\s*(?P<kind>\w+))?\s*(?:,|\s|$)\s*"
)


def _bad(kind: str, text: str, reason: str, position: int = 0) -> OpSyntaxError:
    return OpSyntaxError(f"in {kind}={text!r}: {reason}", code="E050", spans=(Span(position, position + 1),), source=text)


def _items(kind: str, text: str | Sequence[str] | None) -> list[tuple[str, tuple[Dim, ...] | None, bool, str | None]]:
    """Split a declaration into (name, shape, trainable, kind after the colon)."""
    if text is None:
        return []
    if not isinstance(text, str):
        if not isinstance(text, list | tuple) or not all(isinstance(part, str) for part in text):
            raise OpSyntaxError(f"{kind}= takes a string such as \"t x y\" or a list of names", code="E050")
        text = " ".join(text)
    folded = fold(text)
    position = 0
    found: list[tuple[str, tuple[Dim, ...] | None, bool, str | None]] = []
    folded = folded.strip()
    while position < len(folded):
        match = _ITEM.match(folded, position)
        if match is None or match.end() == position:
            rest = folded[position : position + 12]
            raise _bad(kind, folded, f"cannot read {rest!r}; write names separated by blanks", position)
        shape: tuple[Dim, ...] | None = None
        if match["shape"] is not None:
            shape = tuple(_dim(kind, folded, part.strip(), match.start("shape")) for part in match["shape"].split(","))
        if match["prime"]:
            raise _bad(kind, folded, f"a name cannot carry a prime: {match['name']}'", match.start())
        found.append((ascii_name(match["name"]), shape, bool(match["mark"]), match["kind"]))
        position = match.end()
    names = [name for name, *_ in found]
    for name in names:
        if names.count(name) > 1:
            raise OpNameError(f"{name!r} is declared twice in {kind}={text!r}", code="E110")
    return found


def _dim(kind: str, text: str, part: str, position: int) -> Dim:
    if part.isdecimal():
        if len(part) > 12 or int(part) > MAX_DIMENSION:
            raise OpLimitError(f"in {kind}={text!r}: {part} components are more than the limit {MAX_DIMENSION}", code="E305")
        if int(part) == 0:
            raise _bad(kind, text, "a length must be at least 1", position)
        return int(part)
    if re.fullmatch(_NAME, part):
        return ascii_name(part)
    raise _bad(kind, text, f"{part!r} is no length: write u[3], sigma[3,3] or u[d]", position)


_GEOMETRY = re.compile(r"\b(polar|cylindrical|spherical)\s*\(([^)]*)\)")
_GEOMETRY_SIZE = {"polar": 2, "cylindrical": 3, "spherical": 3}


def read_coords(text: str | Sequence[str] | None) -> tuple[tuple[CoordinateDecl, ...], str]:
    """Read ``"t x y"``, ``"t x[100]"``, ``"t polar(r, theta)"``; return the coordinates and the geometry.

    Example:
        >>> read_coords("t polar(r, theta)")[1]
        'polar'
    """
    geometry = "cartesian"
    if isinstance(text, str):
        match = _GEOMETRY.search(text)
        if match:
            geometry = match[1]
            inner = _items("coords", match[2])
            if len(inner) != _GEOMETRY_SIZE[geometry]:
                raise _bad("coords", text, f"{geometry}(…) takes {_GEOMETRY_SIZE[geometry]} names")
            text = f"{text[: match.start()]} {match[2]} {text[match.end() :]}"
    decls: list[CoordinateDecl] = []
    for name, shape, mark, kind in _items("coords", text):
        if mark or kind:
            raise _bad("coords", str(text), f"{name}: a coordinate takes no '?' and no ':'")
        if shape is not None and len(shape) != 1:
            raise _bad("coords", str(text), f"{name}: a coordinate vector has one length, {name}[3]")
        decls.append(CoordinateDecl(name, None if shape is None else shape[0]))
    if sum(isinstance(d.size, str) for d in decls) > 1:
        raise _bad("coords", str(text), "only one coordinate vector may have a symbolic length")
    return tuple(decls), geometry


def read_fields(text: str | Sequence[str] | None) -> tuple[FieldDecl, ...]:
    """Read ``"u[3] p sigma[3,3] psi:complex"``."""
    decls = []
    for name, shape, mark, kind in _items("fields", text):
        if mark:
            raise _bad("fields", str(text), f"?{name}: only parameters are trainable by a mark; a field is always an unknown")
        if kind not in (None, "complex", "real"):
            raise _bad("fields", str(text), f"{name}:{kind}: write {name}:complex")
        decls.append(FieldDecl(name, shape or (), kind == "complex"))
    return tuple(decls)


def read_params(text: str | Sequence[str] | None) -> tuple[ParamDecl, ...]:
    """Read ``"nu ?lam b[2] D[2,2] a_ij"``. Whether ``a_ij`` is a name or ``a`` with two indices, the text decides."""
    decls = []
    for name, shape, mark, kind in _items("params", text):
        if kind:
            raise _bad("params", str(text), f"{name}:{kind}: a parameter is real and takes no ':'")
        decls.append(ParamDecl(name, shape, mark))
    return tuple(decls)


def index_suffixes(params: Iterable[ParamDecl], letters_in_use: frozenset[str]) -> tuple[ParamDecl, ...]:
    """Turn declared ``a_ij`` into ``a`` of rank 2 where its letters are indices elsewhere in the text; else keep the name.

    ``a_ij d_i d_j u`` has ``d_i`` and ``d_j``; the production term ``P_k`` of a turbulence model has no other ``k``.

    Example:
        >>> [str(p) for p in index_suffixes(read_params("a_ij P_k"), frozenset("ij"))]
        ['a[d,d]', 'P_k']
    """
    out = []
    for decl in params:
        base, _, letters = decl.name.rpartition("_")
        if base and decl.shape is None and letters and set(letters) <= letters_in_use & INDEX_LETTERS:
            decl = ParamDecl(base, ("d",) * len(letters), decl.trainable)
        out.append(decl)
    return tuple(out)


def read_functions(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """Read ``"R c"``."""
    return tuple(name for name, *_ in _items("functions", text))


def check_distinct(decls: Declarations) -> None:
    """Refuse one name with two roles."""
    roles: dict[str, str] = {}
    groups: list[tuple[str, Iterable[str]]] = [
        ("coordinate", (c.name for c in decls.coords)),
        ("field", (f.name for f in decls.fields)),
        ("parameter", (p.name for p in decls.params)),
        ("function", decls.functions),
    ]
    for role, names in groups:
        for name in names:
            if name in roles:
                raise OpNameError(f"{name!r} is declared as a {roles[name]} and as a {role}", code="E110")
            roles[name] = role


# --------------------------------------------------------------------------------------------- suffixes
def split_names(suffix: str, names: Sequence[str]) -> list[str] | None:
    """Split a suffix into declared names, every way counted: None if impossible; ambiguity raises ValueError.

    Example:
        >>> split_names("xxt", ["t", "x"]), split_names("xz", ["t", "x"]), split_names("thetar", ["r", "theta"])
        (['x', 'x', 't'], None, ['theta', 'r'])
    """
    if not suffix or len(suffix) > 256:
        return None
    # ways[k]: number of ways to reach position k, and the last name used on one of them.
    ways: list[tuple[int, str]] = [(0, "")] * (len(suffix) + 1)
    ways[0] = (1, "")
    for end in range(1, len(suffix) + 1):
        count, last = 0, ""
        for name in names:
            if suffix.endswith(name, 0, end) and ways[end - len(name)][0]:
                count += ways[end - len(name)][0]
                last = name
        ways[end] = (count, last)
    if ways[-1][0] == 0:
        return None
    if ways[-1][0] > 1:
        raise ValueError(suffix)
    parts: list[str] = []
    end = len(suffix)
    while end:
        parts.append(ways[end][1])
        end -= len(ways[end][1])
    return parts[::-1]
