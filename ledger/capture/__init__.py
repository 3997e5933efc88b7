"""Capture: what a trial ran with, stored once by content and referred to by each trial.

``collect`` finds it out (``environment``, ``packages``, ``git``, ``source``; secrets are taken out by ``masking``), ``record``
says what of it is new, in the write transaction, and ``read`` gives it back. ``handle`` is what a trial offers of it.
Importing this package loads none of the collectors.
"""
