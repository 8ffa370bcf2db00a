"""The operator as a user holds it: evaluate, explain, plan, tune, bind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opdsl.backends.compilers import as_it_stands
from opdsl.errors import BindingError, StrategyError, shown
from opdsl.evaluation.bindings import check_names
from opdsl.evaluation.call import OperatorCall
from opdsl.evaluation.description import STAND_IN, Described
from opdsl.evaluation.jacobian import jacobian
from opdsl.evaluation.options import NAMES, Options, bound
from opdsl.evaluation.results import Estimate, Residuals
from opdsl.evaluation.session import Session
from opdsl.evaluation.step import bind
from opdsl.language.residual import Residual
from opdsl.planning.plan import Plan
from opdsl.strategies.base import Strategy

if TYPE_CHECKING:
    from opdsl.evaluation.conditions import Condition, Expression


class Operator(Described):
    """A differential operator or residual, parsed and expanded; evaluates on any network of any backend.

    Made by `operator` or `parse`. Calling it gives one number per point and equation:

        ``op(u, x, **bindings)``  with x of shape (n, d), columns in the order of ``coords``.

    JAX functions take one point (d,); torch and NumPy functions take (n, d). One scalar equation gives (n,), a vector
    equation (n, k), several equations a `Residuals` record. A single point (d,) gives results without the leading axis.

    What an operator keeps between calls (`opdsl.evaluation.session.Session`) is bounded and made again when needed.
    """

    def __init__(
        self,
        system: Any,
        *,
        backend: str | None = None,
        strategy: Any = "auto",
        expand: Callable[[int | None], Residual] | None = None,
    ) -> None:
        Options(backend=backend, strategy=strategy)  # refuses what cannot be either
        self.system = system
        self._backend, self._strategy, self._expand = backend, strategy, expand
        self._session = Session(
            system, expand or self._expanded, text=self.text, backend=backend, strategy="auto" if strategy is None else strategy
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _operator, (self.system, self._backend, self._strategy, self._expand)

    def residual(self, dimension: int | None = None) -> Residual:
        """The expanded residual; ``dimension`` resolves a symbolic vector of coordinates."""
        if dimension is not None and (isinstance(dimension, bool) or not isinstance(dimension, int) or dimension < 1):
            raise BindingError(f"dimension={shown(dimension)}: give the number of coordinates that the text leaves open.")
        return self._session.residual(dimension)

    def _expanded(self, dimension: int | None) -> Residual:
        from opdsl.language.calculus import expand

        return expand(self.system, dimension)

    @cached_property
    def conditions(self) -> Mapping[str, Condition]:
        """Boundary and initial conditions by name: operators of their own with ``.where``."""
        from opdsl.evaluation.conditions import conditions_of

        return conditions_of(self.system, None if self.system.symbolic is None else STAND_IN, self._backend)

    def sobolev(self, order: int) -> Operator:
        """The residuals and all their derivatives up to ``order``, one equation each: a Sobolev loss.

        Example:
            >>> import opdsl
            >>> opdsl.operator("F: u_t = u_xx", coords="t x", fields="u").sobolev(1)
            Operator('coords: t x; fields: u; F: u_t - u_xx; F_t: d_t (u_t - u_xx); F_x: d_x (u_t - u_xx)')
        """
        from opdsl.language.calculus import sobolev

        return Operator(sobolev(self.system, order), backend=self._backend, strategy=self._strategy)

    def substitute(
        self, lines: str | Mapping[str, str], *, coords: str | None = None, fields: str | None = None, params: str | None = None
    ) -> Operator | Expression:
        """Change variables: old coordinates (and fields) as expressions of new ones, exactly and in any order.

        Where every field is replaced by a formula the result is an `Expression` of the coordinates and parameters: the forcing
        of a manufactured solution. ``params=`` declares names that the lines add.

        Example:
            >>> import opdsl
            >>> op = opdsl.operator("u_t = u_xx", coords="t x", fields="u")
            >>> op.substitute("t = s; x = 2*y", coords="s y")
            Operator('coords: s y; fields: u; u_s - 0.25*u_yy')
            >>> op.substitute({"u": "exp(-t) sin(2 x)"})
            Expression('coords: t x; fields: ; 3*exp(-t)*sin(2*x)')
        """
        from opdsl.evaluation.conditions import Expression
        from opdsl.grammar import parse_system
        from opdsl.language.calculus import substitute

        changed = substitute(self.system, lines, parse_system, coords=coords, fields=fields, params=params)
        if not changed.declarations.fields:
            return Expression(changed, backend=self._backend)
        return Operator(changed, backend=self._backend, strategy=self._strategy)

    # --------------------------------------------------------------------------------------------------- evaluation

    @as_it_stands
    def __call__(
        self,
        u: Any,
        x: Any,
        *,
        strategy: Any = None,
        backend: str | None = None,
        params: Any = None,
        batched: bool = False,
        training: bool | None = None,
        memory: int | float | str | None = None,
        bindings: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Any:
        """Evaluate on the field(s) ``u`` at the points ``x``.

        Args:
            u: a torch module, a JAX, Equinox or Flax function, an array-API function; a dictionary by field name for
                separate networks.
            x: points, (n, d) or (d,).
            strategy: a literature name, or ``"auto"``; by field name where there are several networks.
            backend: ``"jax"``, ``"torch"`` or ``"numpy"``; inferred from the arrays by default.
            params: parameters of the network; then u is called as ``u(params, point)``.
            batched: JAX functions of (n, d).
            training: choose the strategy for a training step; by default on torch where parameters require gradients.
            memory: bytes, or "6 GiB": the points are evaluated in pieces of that predicted size, and computed anew in reverse
                mode.
            bindings: values of the text by name, where a name is also that of an option.
            **named: parameters, coefficients and functions of the text by name.

        Raises:
            BindingError, ShapeError, BackendError, StrategyError: each says what was found and what to write instead.
        """
        options = Options(
            strategy=strategy, backend=backend, params=params, batched=batched, training=training, memory=memory
        )  # fmt: skip
        return self._session.value(u, x, options, self._spelled(bound(named, bindings)))

    @as_it_stands
    def estimate(
        self,
        u: Any,
        x: Any,
        *,
        strategy: Strategy,
        repeats: int = 8,
        backend: str | None = None,
        params: Any = None,
        batched: bool = False,
        training: bool | None = None,
        memory: int | float | str | None = None,
        bindings: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Any:
        """Mean and standard error of a stochastic strategy over independent keys.

        Args:
            u, x, backend, params, batched, training, memory, bindings, **named: as for a call.
            strategy: an `opdsl.STDE` with its key, from which the keys of the repeats are made.
            repeats: number of estimates, at least 2.

        Returns:
            An `Estimate`; for several equations `Residuals` of them.

        Example:
            >>> import numpy as np, opdsl
            >>> op = opdsl.operator("laplace(u)", coords="x[50]", fields="u")
            >>> u = lambda x: (x**4).sum(axis=-1)
            >>> found = op.estimate(u, np.ones((1, 50)), strategy=opdsl.STDE(samples=5, key=0), repeats=4)
            >>> float(found.value[0]), float(found.standard_error[0])
            (600.0, 0.0)
        """
        if not isinstance(repeats, int) or isinstance(repeats, bool) or not 2 <= repeats <= 10**6:
            raise StrategyError(f"repeats={shown(repeats)}: a standard error needs at least two estimates, a million at most.")
        if getattr(strategy, "key", None) is None:
            raise StrategyError("estimate needs a stochastic strategy with its key: strategy=opdsl.STDE(samples=16, key=…).")
        options = Options(
            strategy=strategy, backend=backend, params=params, batched=batched, training=training, memory=memory
        )  # fmt: skip
        given = bound(named, bindings)
        ops = self._call(u, x, options, given).backend
        found = [
            self._session.evaluate(self._call(u, x, replace(options, strategy=strategy.keyed(k)), given))
            for k in ops.keys(strategy.key, repeats)  # type: ignore[attr-defined]
        ]
        xp = ops.ops.xp

        def over(values: Sequence[Any]) -> Estimate:
            stacked = xp.stack(values)
            mean = xp.mean(stacked, axis=0)
            variance = xp.sum((stacked - mean[None, ...]) ** 2, axis=0) / (repeats - 1)
            return Estimate(mean, xp.sqrt(variance / repeats), repeats)

        if isinstance(found[0], Residuals):
            names = found[0].keys()
            return Residuals(names, tuple(over([f[name] for f in found]) for name in names))
        return over(found)

    @as_it_stands
    def jacobian(
        self,
        u: Any,
        x: Any,
        *,
        form: str = "flat",
        value: bool = False,
        strategy: Any = None,
        backend: str | None = None,
        params: Any = None,
        batched: bool = False,
        training: bool | None = None,
        memory: int | float | str | None = None,
        bindings: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Any:
        r"""The derivatives of the residuals in the parameters, point by point.

            J[i, c, p] = ∂ r_c(x_i; θ) / ∂ θ_p

        for the residuals r of every point (all components of all equations beside one another: k) and the parameters θ: those of
        the networks, and after them the trainable ones of the text (``?nu``), in its order. On JAX the parameters of the networks
        are the floating leaves of ``params=`` (in the order of `jax.flatten_util.ravel_pytree`) or of Equinox modules, on torch
        those of the modules in ``u`` that require gradients (in the order of ``module.parameters()``), or the tensors of ``params=``.

        One push-forward and one reverse sweep over the batch, in which the points stay apart; the time is a small multiple of a
        gradient's, the memory n · k · P numbers. ``form="products"`` keeps nothing of that size.

        Args:
            u, x, strategy, backend, params, batched, training, memory, bindings, **named: as for a call. A random strategy needs a
                key that stays, an integer or a JAX key. ``memory=`` counts the result, too: n · k · P numbers have to fit.
            form: ``"flat"`` for an array (n, k, P); ``"named"`` for ``{"params": …, "coefficients": {"nu": …}}``, where the first
                is a pytree like ``params=`` (a dictionary by the names of the parameters for torch modules) of arrays
                (n, k, \*shape); ``"products"`` for an object with J v and Jᵀ w (`opdsl.evaluation.jacobian.Products`).
            value: return the pair (residuals (n, k), J): both come from the same push-forward.

        Returns:
            What ``form`` says; a single point (d,) gives no leading axis. On torch it is a constant to autograd; `torch.func`
            and JAX's transformations differentiate it like anything else.

        Raises:
            BackendError: NumPy, which differentiates nothing; or J is larger than memory allows, with the sizes.
            BindingError: there is nothing to differentiate in.
            StrategyError: random directions that differ at every evaluation.

        Example:
            >>> import jax.numpy as jnp, opdsl
            >>> op = opdsl.operator("u_xx + c u", coords="x", params="?c")
            >>> u = lambda a, x: a[0] * x[0] ** 3 + a[1]
            >>> a, x = jnp.asarray([1.0, 5.0]), jnp.asarray([[1.0], [2.0]])
            >>> op.jacobian(u, x, params=a, c=2.0)[:, 0].tolist()  # 6 x + c x³, c, and u for c itself
            [[8.0, 2.0, 6.0], [28.0, 2.0, 13.0]]
            >>> products = op.jacobian(u, x, params=a, c=2.0, form="products")
            >>> products.vjp(jnp.ones((2, 1))).tolist()
            [36.0, 4.0, 19.0]

        Reference: the Gauss–Newton and Levenberg–Marquardt methods, Nocedal and Wright, Numerical Optimization (2006), ch. 10.
        """
        options = Options(
            strategy=strategy, backend=backend, params=params, batched=batched, training=training, memory=memory
        )  # fmt: skip
        return jacobian([(self, bound(named, bindings))], u, x, options, form=form, value=value)

    @as_it_stands
    def plan(
        self,
        u: Any = None,
        x: Any = None,
        *,
        network: Sequence[int] | None = None,
        dimension: int | None = None,
        strategy: Any = None,
        backend: str | None = None,
        params: Any = None,
        batched: bool = False,
        training: bool | None = None,
        memory: int | float | str | None = None,
        bindings: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Plan:
        """What would be done for this call, without doing it; see `Plan`.

        Without ``u`` and ``x`` the plan is made for a plain network.

        Args:
            u, x, strategy, backend, params, batched, training, memory, bindings, **named: as for a call.
            network: hidden widths of the plain network, (64, 64, 64) by default.
            dimension: the number of coordinates where the text leaves it open, for the plain network.
        """
        options = Options(
            strategy=strategy, backend=backend, params=params, batched=batched, training=training, memory=memory
        )  # fmt: skip
        given = bound(named, bindings)
        if x is not None:
            return self._session.plan(self._call(u, x, options, given, planning=True))
        if u is not None:
            raise BindingError("plan(u, x) needs points beside the network; without both it is made for a plain network.")
        widths = (64, 64, 64) if network is None else network
        if isinstance(widths, str) or not isinstance(widths, Sequence) or not all(
            isinstance(w, int) and not isinstance(w, bool) and 0 < w <= 10**6 for w in widths
        ):
            raise BindingError(f"network={shown(widths)}: give the hidden widths of a plain network, network=(64, 64, 64).")
        check_names(self.residual(dimension), self._spelled(given), self.text)
        return self._session.abstract_plan(widths, options, dimension)

    @as_it_stands
    def explain(
        self, u: Any = None, x: Any = None, *, measure: bool = False, network: Sequence[int] | None = None, **given: Any
    ) -> Plan:
        """The plan; print it to read what is carried, why, and what the alternatives cost.

        ``measure=True`` runs every candidate on ``u`` and ``x`` and puts measured times beside the predictions. Everything else
        is as for `plan`.
        """
        if not measure:
            return self.plan(u, x, network=network, **given)
        if u is None or x is None:
            raise BindingError("explain(measure=True) needs a network and points to run: op.explain(u, x, measure=True, …).")
        from opdsl.evaluation.tuning import measured_plan

        return measured_plan(self._session, u, x, *self._options(**given), 20.0)

    @as_it_stands
    def tune(self, u: Any, x: Any, *, seconds: float = 20.0, **given: Any) -> Plan:
        """Measure every candidate on this call and pin the fastest for calls like it.

        Like it are calls with the same kind of networks, shapes, dtypes and options; ``strategy="auto"`` then takes the pinned
        strategies, also in `bind`. Pins live as long as this operator.

        Args:
            u, x, **given: as for a call; ``training=True`` measures value and parameter gradient of the mean square, as does
                torch by default where parameters require gradients.
            seconds: for timing, compilation not counted.

        Returns:
            The plan with measured times.
        """
        from opdsl.evaluation.tuning import tune

        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise BindingError(f"seconds={shown(seconds)}: give the seconds to spend on timing.")
        return tune(self._session, u, x, *self._options(**given), seconds)

    @as_it_stands
    def bind(
        self,
        u: Any,
        x: Any,
        *,
        strategy: Any = None,
        backend: str | None = None,
        params: Any = None,
        batched: bool = False,
        training: bool | None = None,
        memory: int | float | str | None = None,
        bindings: Mapping[str, Any] | None = None,
        **named: Any,
    ) -> Any:
        """Decide everything ahead for networks and points like these.

        ``step = op.bind(u, x, …)`` gives ``step(y) = op(u, y, …)``, at any number of points. What a step fixes is *which*
        functions, values and options those are, the backend, and the structure of ``params``. What they hold it follows as the
        call does: parameters and buffers, in place or replaced; ``train()`` and ``eval()``; attributes, hooks and globals that
        the functions read; arrays edited in place. Where that changes the computation, it is captured again; a function of
        which that cannot be told (it reads the time, random numbers, files) is captured at every call. Inside `torch.compile`
        and `torch.export` a step is what it was at its last call outside, apart from its tensors and from ``train()`` and
        ``eval()``. Its graph there serves any number of points (``dynamic=True``) where no function asks for that number, and
        no value is bound that has one number for each point; otherwise there is one graph for each number.

        Args:
            u, x, strategy, backend, params, batched, training, memory, bindings, **named: as for a call.

        Returns:
            torch: an ``nn.Module`` that owns ``u`` and the parameters that are bound, called as ``step(x)``; JAX: a function
            ``step(x)``, or with ``params=`` a function ``step(params, x)``. Parameters of the text may be given again at each
            call: ``step(x, nu=…)``.

        Raises:
            BindingError, ShapeError, BackendError, StrategyError: as for a call.

        Example:
            >>> import numpy as np, opdsl
            >>> op = opdsl.operator("u_t = nu u_xx", coords="t x", params="nu")
            >>> u = lambda p: p[:, 0] * p[:, 1] ** 2
            >>> step = op.bind(u, np.ones((5, 2)), nu=0.5)
            >>> step(np.array([[2.0, 3.0]])), step(np.array([[2.0, 3.0]]), nu=1.0)
            (array([7.]), array([5.]))
        """
        options = Options(
            strategy=strategy, backend=backend, params=params, batched=batched, training=training, memory=memory
        )  # fmt: skip
        return bind(self, u, x, options, bound(named, bindings))

    # ------------------------------------------------------------------------------------------------------ internals

    def _placed(self, x: Any, options: Options, given: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
        return x, self._spelled(given)

    def _call(self, u: Any, x: Any, options: Options, given: Mapping[str, Any], planning: bool = False) -> OperatorCall:
        return self._session.call(u, x, options, self._spelled(given), planning)

    @staticmethod
    def _options(*, bindings: Mapping[str, Any] | None = None, **given: Any) -> tuple[Options, dict[str, Any]]:
        """Options, and what is bound."""
        own = {name: given.pop(name) for name in NAMES if name in given}
        return Options(**own), bound(given, bindings)


def _operator(system: Any, backend: str | None, strategy: Any, expand: Any) -> Operator:
    return Operator(system, backend=backend, strategy=strategy, expand=expand)
