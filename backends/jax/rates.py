"""What each kind of work takes on JAX.

Fitted to the grid in ``asv_benchmarks/planner_grid`` (one thread, float32), by ``report.py --fit``. Where the grid cannot tell
a rate from zero, a tenth of a plain guess stands instead, so that no kind of work is free on other shapes.
"""

from opdsl.backends.execution import Constants, Rates, accelerator

RATES = {
    "cpu": Constants(
        Rates(
            products=1.17e-11, traffic=8.54e-11, calls=2.12e-06, elements=4.78e-11, reductions=5.07e-10, spreads=6.03e-11,
            functions=7.19e-10, moves=1.42e-10, views=8.36e-12, steps=1.72e-07, windows=6.59e-08, call=2.24e-05,
        ),
        Rates(
            products=6.31e-11, traffic=1.30e-09, calls=1.50e-06, elements=1.05e-10, reductions=1.87e-09, spreads=2.15e-09,
            functions=5.26e-10, moves=9.00e-11, views=2.57e-10, steps=1.38e-06, windows=5.27e-07, call=6.00e-06,
        ),
        compile_step=2e-3,
        compile_training_step=1e-2,
    ),
    # XLA fuses operations, so that a fifth of them is started.
    "cuda": accelerator(0.2, compile_step=2e-3, compile_training_step=1e-2),
}  # fmt: skip
