"""What each kind of work takes on NumPy; fitted like the rates of JAX (`opdsl.backends.jax.rates`).

Twelve cells of one kind of network cannot tell functions and spreads from products: the fit is drawn to the rates before it with
strength 0.3. NumPy has no gradients: three times an evaluation stands in where a plan shows a training step.
"""

from opdsl.backends.execution import Constants, Rates

RATES = {
    "cpu": Constants(
        Rates(
            products=3.85e-11, traffic=4.48e-10, calls=2.27e-05, elements=1.56e-11, reductions=1.43e-09, spreads=9.48e-11,
            functions=5.61e-10, moves=2.67e-10, views=1.46e-11, steps=3.03e-06, windows=6.23e-07, call=3.71e-05,
        ),
        Rates(
            products=1.16e-10, traffic=1.34e-09, calls=6.81e-05, elements=4.68e-11, reductions=4.29e-09, spreads=2.84e-10,
            functions=1.68e-09, moves=8.01e-10, views=4.38e-11, steps=9.09e-06, windows=1.87e-06, call=1.11e-04,
        ),
    ),
}  # fmt: skip
