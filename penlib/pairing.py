"""Who belongs to whom, when every pair has its cost: all pairs together as cheap as can be found quickly.

The cheapest pairs first, in order where they cost about the same.  Then, as long as that makes the whole
cheaper, two lines exchange their records, or one takes a record that is left over.  That is not always the
best there is, but hardly ever far from it, and needs little time.

Pure: costs in, pairs out.
"""

PASSES = 8
"""Times that all pairs are looked at for something better, at most; mostly two will do."""

GAIN = 1e-6
"""What an exchange must save: rounding must not make it go on for ever."""

ABOUT = 2.5
"""Costs this near to each other are about the same; then the order of lines and records is kept."""

NEVER = float("inf")

Costs = list[dict[int, float]]
"""For each line what each record costs that may be its own."""


def cheapest(costs: Costs) -> dict[int, int]:
    """The record of each line that gets one; no record is given twice."""
    if len(costs) == 1:  # most often
        row = costs[0]
        return {0: min(row, key=row.__getitem__)} if row else {}
    record_of: dict[int, int] = {}
    line_of: dict[int, int] = {}
    pairs = _by_cost(costs)
    for about in sorted(pairs):
        for line, record in pairs[about]:
            if line not in record_of and record not in line_of:
                record_of[line] = record
                line_of[record] = line
    least = [min(row.values(), default=NEVER) for row in costs]
    for _ in range(PASSES):
        if not _improve(costs, least, record_of, line_of):
            break
    return record_of


def _by_cost(costs: Costs) -> dict[float, list[tuple[int, int]]]:
    """All pairs, those together that cost about the same, in order."""
    pairs: dict[float, list[tuple[int, int]]] = {}
    for line, row in enumerate(costs):
        for record, cost in row.items():
            about = cost // ABOUT
            if about in pairs:
                pairs[about].append((line, record))
            else:
                pairs[about] = [(line, record)]
    return pairs


def _improve(costs: Costs, least: list[float], record_of: dict[int, int], line_of: dict[int, int]) -> bool:
    """Exchange what makes the whole cheaper; answers whether anything did.

    Of two lines that exchange at least one gets what is cheaper for it, so only such records are looked at.
    """
    improved = False
    for line, row in enumerate(costs):
        mine = record_of.get(line)
        spent = NEVER if mine is None else row[mine]
        if spent == least[line]:
            continue
        for record, cost in row.items():
            if cost >= spent:
                continue
            other = line_of.get(record)
            if other is None:
                if mine is not None:
                    del line_of[mine]
            elif mine is not None and _gain(costs, line, mine, other, record) > GAIN:
                record_of[other], line_of[mine] = mine, other
            else:
                continue
            record_of[line], line_of[record] = record, line
            mine, spent, improved = record, cost, True
    return improved


def _gain(costs: Costs, line: int, mine: int, other: int, record: int) -> float:
    """What is saved if two lines exchange their records."""
    if mine not in costs[other]:
        return 0.0
    return costs[line][mine] - costs[line][record] + costs[other][record] - costs[other][mine]
