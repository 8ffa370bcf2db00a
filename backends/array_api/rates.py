"""What each kind of work takes on NumPy; fitted like the rates of JAX (`opdsl.backends.jax.rates`).

NumPy has no gradients: three times an evaluation stands in where a plan shows a training step.
"""

from opdsl.backends.execution import Constants, Rates

RATES = {
    "cpu": Constants(
        Rates(
            products=3.49e-11, traffic=4.09e-10, calls=1.51e-05, elements=1.50e-11, reductions=1.03e-09, spreads=9.47e-11,
            functions=8.38e-10, moves=2.62e-10, views=1.44e-11, steps=3.92e-06, windows=6.04e-07, call=3.28e-05,
        ),
        Rates(
            products=1.05e-10, traffic=1.23e-09, calls=4.53e-05, elements=4.50e-11, reductions=3.09e-09, spreads=2.84e-10,
            functions=2.51e-09, moves=7.86e-10, views=4.32e-11, steps=1.18e-05, windows=1.81e-06, call=9.84e-05,
        ),
    ),
}  # fmt: skip
