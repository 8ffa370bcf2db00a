"""opdsl: differential operators written as text, evaluated fast on networks.

    >>> import numpy as np, opdsl
    >>> heat = opdsl.operator("u_t - nu u_xx", coords="t x", params="nu")
    >>> heat(lambda p: p[:, 0] * p[:, 1] ** 2, np.array([[1.0, 3.0]]), nu=0.5)
    array([8.])
"""

from opdsl import errors as errors
from opdsl.backends import backend as backend
from opdsl.backends.registration import jet_rule as jet_rule
from opdsl.errors import OpdslError as OpdslError
from opdsl.errors import OpdslWarning as OpdslWarning
from opdsl.evaluation.api import Expression as Expression
from opdsl.evaluation.api import Operator as Operator
from opdsl.evaluation.api import expression as expression
from opdsl.evaluation.api import from_sympy as from_sympy
from opdsl.evaluation.api import operator as operator
from opdsl.evaluation.api import parse as parse
from opdsl.evaluation.api import sobolev as sobolev
from opdsl.evaluation.check_backends import check_backends as check_backends
from opdsl.evaluation.results import Estimate as Estimate
from opdsl.evaluation.results import Residuals as Residuals
from opdsl.planning.plan import Plan as Plan
from opdsl.strategies.stde import HTE as HTE
from opdsl.strategies.stde import SDGD as SDGD
from opdsl.strategies.stde import STDE as STDE

# After everything that imports the modules of these names: the public functions take their places in the namespace.
from opdsl.evaluation.channels import derivative_space as derivative_space  # isort: skip
from opdsl.evaluation.compare import compare as compare  # isort: skip

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """``opdsl.lowrank``, which few need, is imported when it is asked for."""
    if name == "lowrank":
        from importlib import import_module

        return import_module("opdsl.lowrank")
    raise AttributeError(f"module 'opdsl' has no attribute {name!r}")
