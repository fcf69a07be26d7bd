"""Benchmarks: Stoker and its peers side by side, in one run. ``make bench``, or each script alone (``--help``)."""
