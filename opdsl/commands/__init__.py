"""The subcommands of ``opdsl``, one module each.

A module here is a subcommand: the first line of its docstring is its help, ``add_arguments(parser)`` declares its
options, and ``run(arguments) -> int`` returns the exit status. To add one, write the module and name it in `NAMES`.
Heavy imports belong inside ``run``.
"""

NAMES = ("solve", "problems", "explain", "check", "compare", "tune")
