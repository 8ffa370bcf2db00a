"""What each kind of work takes on NumPy; fitted like the rates of JAX (`opdsl.backends.jax.rates`).

NumPy has no gradients: three times an evaluation stands in where a plan shows a training step.
"""

from opdsl.backends.execution import Constants, Rates

RATES = {
    "cpu": Constants(
        Rates(
            products=2.31e-11, traffic=2.94e-10, calls=3.77e-05, elements=8.69e-11, reductions=9.57e-12, spreads=1.13e-10,
            functions=1.74e-10, moves=4.62e-10, views=1.93e-11, steps=1.42e-06, windows=3.83e-07, call=1.85e-05,
        ),
        Rates(
            products=6.93e-11, traffic=8.82e-10, calls=1.13e-04, elements=2.61e-10, reductions=2.87e-11, spreads=3.39e-10,
            functions=5.22e-10, moves=1.39e-09, views=5.79e-11, steps=4.26e-06, windows=1.15e-06, call=5.55e-05,
        ),
    ),
}  # fmt: skip
