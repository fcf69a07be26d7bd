"""The programs that ``benchmarks.end_to_end`` runs in alternation; ``protocol`` has their messages.

Each runs in an environment of its own: ``python -m benchmarks.contenders.MODULE WAY FOLDER SIZE``.
"""
