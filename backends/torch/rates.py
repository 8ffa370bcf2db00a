"""What each kind of work takes on torch; fitted like the rates of JAX (`opdsl.backends.jax.rates`)."""

from opdsl.backends.execution import Constants, Rates, accelerator

RATES = {
    "cpu": Constants(
        Rates(
            products=9.48e-12, traffic=1.00e-11, calls=1.22e-06, elements=3.19e-10, reductions=2.63e-10, spreads=3.44e-10,
            functions=7.29e-10, moves=5.56e-10, views=1.11e-11, steps=1.38e-06, windows=2.85e-06, call=3.57e-05,
        ),
        Rates(
            products=2.56e-11, traffic=3.00e-11, calls=1.80e-05, elements=1.55e-09, reductions=1.34e-09, spreads=4.60e-10,
            functions=1.44e-09, moves=2.32e-09, views=4.43e-10, steps=5.39e-06, windows=1.63e-05, call=1.43e-04,
        ),
    ),
    "cuda": accelerator(),
}  # fmt: skip
