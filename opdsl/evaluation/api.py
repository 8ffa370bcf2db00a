"""The public entrances: text in, operator out."""

from __future__ import annotations

from typing import Any

from opdsl.errors import OpdslError, OpSyntaxError, shown
from opdsl.evaluation.conditions import Condition as Condition
from opdsl.evaluation.conditions import Expression as Expression
from opdsl.evaluation.operators import Operator as Operator


def parse(
    text: str,
    *,
    coords: Any = None,
    fields: Any = None,
    params: Any = None,
    functions: Any = None,
    time: str | None = None,
) -> Operator:
    """Parse the text of an operator or residual; see `operator`."""
    return operator(text, coords=coords, fields=fields, params=params, functions=functions, time=time)


def operator(
    text: str,
    *,
    coords: Any = None,
    fields: Any = None,
    params: Any = None,
    functions: Any = None,
    time: str | None = None,
    backend: str | None = None,
    strategy: Any = "auto",
) -> Operator:
    """An operator from its text.

    Args:
        text: one equation or several, as in a paper: ``u_t + u u_x = nu u_xx``. The result is left side minus right side.
        coords: names of the input columns in order, ``"t x y"``; a vector as ``"x[3]"`` or ``"x[d]"``.
        fields: unknowns, in the order of the output columns: ``"u[2] p"``. Without it differentiated names are fields.
        params: names bound at call time: ``"nu ?lam a_ij"``; ``?`` marks a trainable one, and says nothing else. Where the text
            differentiates one, as in ``d_x(k u_x)``, what is bound decides: a function or a network is differentiated exactly, the
            derivatives of a number or a constant array are zero, one value per point is refused.
        functions: names of functions bound at call time.
        time: the coordinate that vector calculus leaves out; ``t`` when present.
        backend: ``"jax"``, ``"torch"`` or ``"numpy"``; inferred from the arrays by default.
        strategy: a literature name, or ``"auto"``.

    Raises:
        OpdslError: the text is refused, with the place, the reason and what to write instead.

    Example:
        >>> import numpy as np
        >>> laplacian = operator("laplace(u)", coords="x y")
        >>> laplacian(lambda p: p[:, 0] ** 3 * p[:, 1], np.array([[2.0, 5.0]]))
        array([60.])
        >>> flux = operator("d_x(k u_x)", coords="x", params="k")
        >>> points = np.array([[1.0], [2.0]])
        >>> flux(lambda p: p[:, 0] ** 3, points, k=lambda p: p[:, 0]), flux(lambda p: p[:, 0] ** 3, points, k=2.0)
        (array([ 9., 36.]), array([12., 24.]))
    """
    from opdsl.grammar import parse_system

    system = parse_system(text, coords=coords, fields=fields, params=params, functions=functions, time=time)
    return Operator(system, backend=backend, strategy=strategy)


def expression(text: str, *, coords: Any, params: Any = None, functions: Any = None, backend: str | None = None) -> Expression:
    """A formula such as an exact solution or initial data: ``exp(-nu t) sin(pi x)``.

    Args:
        text: a formula of the coordinates and parameters.
        coords: names of the columns.
        params: names bound at call time.
        functions: names of functions bound at call time.
        backend: as for `operator`.

    Raises:
        OpdslError: the text is refused, with the place, the reason and what to write instead.

    Example:
        >>> import numpy as np
        >>> expression("a sin(pi x) + y", coords="x y", params="a")(np.array([[0.5, 3.0]]), a=2.0)
        array([5.])
    """
    from opdsl.grammar import parse_system

    system = parse_system(text, coords=coords, fields="", params="" if params is None else params, functions=functions, time=None)
    return Expression(system, backend=backend)


def from_sympy(expressions: Any, *, coords: str) -> Operator:
    """An operator from SymPy expressions or equations in applied functions of the coordinates (needs SymPy).

    Args:
        expressions: one expression or ``Eq``, or a sequence of them.
        coords: names of the input columns in order.

    Raises:
        OpdslError: something has no place in the language, or SymPy is not installed.

    Example:
        >>> import sympy
        >>> t, x, nu = sympy.symbols("t x nu")
        >>> u = sympy.Function("u")(t, x)
        >>> from_sympy(sympy.Eq(u.diff(t), nu * u.diff(x, 2)), coords="t x")
        Operator('coords: t x; fields: u; params: nu; u_t = nu*u_xx')
    """
    from opdsl.grammar.from_sympy import from_sympy as convert

    try:
        system = convert(expressions, coords=coords)
    except OpdslError:
        raise
    except Exception as error:
        raise OpSyntaxError(f"SymPy cannot read {shown(expressions)}: {type(error).__name__}.", code="E003") from error
    return Operator(system)


def sobolev(op: Operator, order: int) -> Operator:
    r"""The residuals of an operator and all their derivatives ∂^α, |α| ≤ order, one equation each; see `Operator.sobolev`.

    Example:
        >>> sobolev(operator("F: u_t = u_xx", coords="t x", fields="u"), 1)
        Operator('coords: t x; fields: u; F: u_t - u_xx; F_t: d_t (u_t - u_xx); F_x: d_x (u_t - u_xx)')
    """
    return op.sobolev(order)
