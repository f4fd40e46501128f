"""McNemar's test in its exact form: did one of two runs win more of the rows on which they disagree than chance would let it?"""


def mcnemar(won: int, lost: int) -> float:
    """Two-sided p-value: each disagreement falls either way with probability one half. Ties do not count.

    Raises:
        ValueError: a count is negative.
    """
    if won < 0 or lost < 0:
        raise ValueError(f"{won} won and {lost} lost, expected counts")
    total = won + lost
    tail = term = 1
    for count in range(min(won, lost)):
        term = term * (total - count) // (count + 1)
        tail += term
    return min(1.0, float(2 * tail / (1 << total)))
