"""Suggestions for misspelt names."""

import difflib
from collections.abc import Iterable

MOST_NAMES = 12


def nearest(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.4) -> str:
    """Name the candidates that look most like a misspelt name.

    Args:
        name: what was written.
        known: what could have been meant.
        count: how many to name.
        cutoff: least likeness of a candidate, 0 to 1.

    Returns:
        A clause such as ``did you mean 'bev', 'pv'?``, or ``known: ...`` when nothing is close.

    Example:
        >>> nearest('carr', ['car', 'truck'])
        "did you mean 'car'?"
        >>> nearest('xyz', ['car', 'truck'])
        'known: car, truck'
    """
    known = sorted({str(candidate) for candidate in known})
    close = close_names(name, known, count, cutoff)
    if close:
        return 'did you mean ' + ', '.join(map(repr, close)) + '?'
    more = f' and {len(known) - MOST_NAMES} more' if len(known) > MOST_NAMES else ''
    return 'known: ' + (', '.join(known[:MOST_NAMES]) + more or 'none')


def close_names(name: str, known: Iterable[str], count: int = 3, cutoff: float = 0.4) -> list[str]:
    """The candidates that look most like a name, best first; case does not count.

    Args:
        name: what was written.
        known: what could have been meant.
        count: how many to return at most.
        cutoff: least likeness, 0 to 1.

    Example:
        >>> close_names('bevformer', ['BEVFormer', 'VoxelNet'])
        ['BEVFormer']
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    return [
        by_lower[match] for match in difflib.get_close_matches(str(name).lower(), by_lower, count, cutoff)
    ]
