"""The programs that ``benchmarks.end_to_end`` runs in alternation, one per way of feeding; ``protocol`` is what they speak.

Each runs on its own Python, and imports nothing of the others: ``python -m benchmarks.contenders.MODULE WAY FOLDER SIZE``.
"""
