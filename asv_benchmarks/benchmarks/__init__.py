"""Benchmarks in the conventions of asv: ``time_…``, ``peakmem_…``, ``track_…``, ``setup``, ``params``."""
