"""The ledger measured beside what a user would pick instead, and beside the physical limit.

``python -m benchmarks`` runs it, ``python -m benchmarks.page`` redraws the page and the plots from what was kept.
"""
