"""Nearest: which of the names that there are was meant by one that there is not."""

from __future__ import annotations

from collections.abc import Iterable

_LEAST = 0.6  # of how much two names are alike, that one is taken for the other


def find_nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that is most like the one given, in upper or lower case; None when none is like it.

    What comes before the first dot counts once: two names are not alike for being below one word.

    >>> find_nearest("config.lrr", ["config.lr", "info.lr"]), find_nearest("confg.lr", ["config.lr", "info.status"])
    ('config.lr', 'config.lr')
    >>> find_nearest("config.zzz", ["config.lr", "config.name"]), find_nearest("DEMO", ["demo"])
    (None, 'demo')
    """
    head, dot, tail = name.partition(".")
    others = []
    ends = []
    for each in known:
        if dot and each.startswith(head + dot):
            ends.append(each[len(head) + 1 :])
        else:
            others.append(each)
    found = _closest(tail, ends)
    return _closest(name, others) if found is None else head + dot + found


def _closest(name: str, known: Iterable[str]) -> str | None:
    import difflib  # not before somebody mistypes: `import ledger` is timed

    folded = {each.casefold(): each for each in known}
    return next((folded[each] for each in difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=_LEAST)), None)
