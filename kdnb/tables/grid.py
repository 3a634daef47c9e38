"""Grid tables of reStructuredText: text drawn in boxes, which may span columns and rows."""

from __future__ import annotations


def grid(cells: list[list[tuple[str, int, int]]], head: int) -> list[str]:
    """Draw lines of (text, columns, rows) as a grid table of reStructuredText, the first `head` as header."""
    owner = _owners(cells)
    count = len(owner[0])
    flat = [cell for line in cells for cell in line]
    widths = [5] * count
    for index, (text, columns, _) in enumerate(flat):
        first = min(c for line in owner for c, who in enumerate(line) if who == index)
        own = range(first, first + columns)
        short = len(text) + 2 - sum(widths[c] for c in own) - (columns - 1)
        if columns == 1:
            widths[first] = max(widths[first], len(text) + 2)
        elif short > 0:
            for c in own:
                widths[c] += -(-short // columns)
    drawn = []
    for r in range(len(owner) + 1):
        drawn.append(_rule(owner, r, widths, "=" if r == head else "-"))
        if r < len(owner):
            drawn.append(_text_line(owner, r, widths, flat))
    return drawn


def _owners(cells: list[list[tuple[str, int, int]]]) -> list[list[int]]:
    """Which cell, by its number, owns each place."""
    count = sum(columns for _, columns, _ in cells[0])
    owner = [[-1] * count for _ in cells]
    number = 0
    for r, line in enumerate(cells):
        c = 0
        for _, columns, rows in line:
            while owner[r][c] != -1:
                c += 1
            for rr in range(r, r + rows):
                owner[rr][c : c + columns] = [number] * columns
            number += 1
    return owner


def _rule(owner: list[list[int]], r: int, widths: list[int], stroke: str) -> str:
    """The line above row r: drawn where the cells above and below it differ."""

    def border(c: int) -> bool:
        return r in (0, len(owner)) or owner[r - 1][c] != owner[r][c]

    def upright(row: int, c: int) -> bool:
        inside = 0 <= row < len(owner)
        return inside and (c in (0, len(widths)) or owner[row][c - 1] != owner[row][c])

    text = ""
    for c in range(len(widths) + 1):
        beside = (c > 0 and border(c - 1)) or (c < len(widths) and border(c))
        text += "+" if beside else ("|" if upright(r - 1, c) or upright(r, c) else " ")
        if c < len(widths):
            text += (stroke if border(c) else " ") * widths[c]
    return text


def _text_line(owner: list[list[int]], r: int, widths: list[int], flat: list[tuple[str, int, int]]) -> str:
    text, c = "", 0
    while c < len(widths):
        who = owner[r][c]
        columns = flat[who][1]
        room = sum(widths[c : c + columns]) + columns - 1
        begins = r == 0 or owner[r - 1][c] != who
        text += "|" + f" {flat[who][0] if begins else ''}".ljust(room)
        c += columns
    return text + "|"
