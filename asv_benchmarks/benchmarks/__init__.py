"""Benchmarks in the conventions of asv: ``time_…``, ``peakmem_…``, ``track_…``, ``setup``, ``params``.

Nothing here imports ``asv_benchmarks``: asv puts the folder above this package on the path, and the repository's root there
would let the working tree stand in for the commit that is measured.

On a CPU matrix products take one thread: times of single threads survive a shared machine best, and the counts of XLA depend on
how it divides work. (XLA's own pool still runs independent operations side by side; processor time adds them up.) The variables
are read when a framework is imported, so they are set before any is; what the caller has set stays.
"""

import ctypes
import os
from contextlib import suppress

for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
# Otherwise JAX takes most of a GPU's memory at the first touch, and nobody else's peak means anything.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
# Rates that `opdsl tune` measured on this machine must not steer what is measured.
os.environ["OPDSL_CACHE_DIR"] = ""

# glibc gives large arrays back to the system at once and fetches them again, page by page, at the next call; how often depends on
# what else lies on the heap. This doubled times of torch and NumPy at random. M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of <malloc.h>:
with suppress(OSError, AttributeError, TypeError):
    ctypes.CDLL(None).mallopt(-3, 32 << 20)
    ctypes.CDLL(None).mallopt(-1, 1 << 30)
