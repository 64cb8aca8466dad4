"""Write tables in LaTeX for a paper: booktabs, siunitx, at most six columns, as wide as a column or the text.

Widths are estimated in points for Computer Modern at 8 points, which is wider than Times.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from analysis.tables.formats import ABSENT
from analysis.tables.table import Block, Cell, Column, Table
from lt_rebalance.ground.text import count

MOST_COLUMNS = 6
_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    '"': "''",
    "−": "$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "√": r"$\surd$",
    "–": "--",
    "“": "``",
    "”": "''",
    "’": "'",
    "\n": " ",
}
_LAST_LATIN = "\u017f"
"""the last character that LaTeX sets without escaping"""
_WIDTHS = {
    **dict.fromkeys("ijl.,:;'!|[]", 0.29),
    **dict.fromkeys("frtsI()-_", 0.42),
    **dict.fromkeys("mw%MW+−±×<>=", 0.86),
    **{character: 0.76 for character in "ABCDEFGHJKLNOPQRSTUVXYZ&"},
    " ": 0.34,
}
"""widths of characters relative to the font size; others have `_WIDTH`"""
_WIDTH = 0.54
_SIZE_PT = 8.5
_BOLD = 1.15
_GAP_PT = 6.0
_NARROWEST_PT = 60.0
"""of prose columns"""
_LINE_PT = 9.5
_CAPTION_PT = 12.0
_PAGE_PT = 520.0
_FEWEST_LINES = 8
"""fewest rows of a page, however long its notes are"""
_NUMBER = re.compile(r"([<>] )?([+−]?\d[\d,]*(?:\.\d+)?)(.*)", re.DOTALL)
_RATE = re.compile(r"\d[\d,]*/\d[\d,]*\s=\s([^(]*%)")
_COUNTS = re.compile(r"(\d+) of (\d+)")
_ENDS = re.compile(r"\(([^()]*?) to ([^()]*?)\)")
_INTERVAL = re.compile(r"\s*\(([^()]*\bintervals?\b[^()]*)\)")
_PLACE = re.compile(r"([A-Z]\d+[a-z]?)\. (.*)", re.DOTALL)
_PIECE = re.compile(r"[^\s_/+-]{1,8}[_/+-]?|\s+|[_/+-]")
_SETUP = (
    r"\providecommand{\runnerup}[1]{\llap{\underline{\phantom{#1}}}}",
    r"\sisetup{mode=text, detect-weight, retain-explicit-plus,",
    r"  group-digits=integer, group-separator={,}, group-minimum-digits=4}",
    r"\renewcommand{\textminus}{\ooalign{\hphantom{+}\cr\hidewidth\ensuremath{-}\hidewidth\cr}}",
    r"\setlength{\tabcolsep}{3pt}\setlength{\belowcaptionskip}{4pt}",
    r"\emergencystretch=3em\footnotesize",
)
"""settings of a table; numbers are text, because some fonts have no bold digits in formulas, and their minus
is that of formulas, because some fonts have none in text"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The widths of a paper, in points."""

    column_pt: float
    text_pt: float


TWO_COLUMNS = Layout(column_pt=234.0, text_pt=487.0)
"""3.25 and 6.75 inches"""
ONE_COLUMN = Layout(column_pt=397.0, text_pt=397.0)
"""5.5 inches"""


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """One column as it is set."""

    head: str
    cells: list[Cell]
    kind: str
    """S: numbers; l: words; X: prose, which wraps"""
    is_row_head: bool
    is_long: bool
    best: Mapping[int, str]
    """by row, the command of a value that is the best or the second of its training set"""

    @property
    def body_pt(self) -> float:
        """The width of its widest cell, unwrapped."""
        return max(_width(_in_brackets(cell.text)) * (_BOLD if self.best else 1) for cell in self.cells)

    @property
    def width_pt(self) -> float:
        """The width of its widest cell, or of its wrapped head if that is wider."""
        words = max(map(_width, self.head.split()))
        return max(self.body_pt, words, _width(self.head) / 3)


def to_latex(table: Table, layout: Layout = TWO_COLUMNS) -> str:
    r"""Return a LaTeX table for each block, or several if its rows need several pages.

    The columns are those that a page shows by default; the CSV has all. The caption gives n and explains
    brackets and marks; meaning and notes are below. A table that does not fit a column is a `table*`.
    """
    if table.is_empty:
        return f"% {' '.join(table.title.split())}: {' '.join(table.meaning.split())}\n"
    head = f"% needs \\usepackage{{booktabs, siunitx, tabularx}}; {table.name}.csv has all columns\n"
    blocks = enumerate(table.blocks(), start=1)
    return head + "\n".join(
        part for number, block in blocks for part in _write_block(table, block, layout, number)
    )


def escape(text: str) -> str:
    """Return a text for LaTeX; a character that it lacks is named by its code."""
    return "".join(map(_escape_character, text))


def _escape_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    is_known = character.isprintable() and character <= _LAST_LATIN
    return character if is_known else f"[U+{ord(character):04X}]"


def _breakable(text: str) -> str:
    """Return an escaped text whose long words may break, after joints and inside words."""
    words = re.split(r"(\s+)", text)
    return "".join(
        r"\allowbreak{}".join(map(escape, _PIECE.findall(word))) if len(word) > 12 else escape(word)
        for word in words
    )


def _width(text: str) -> float:
    return _SIZE_PT * sum(_WIDTHS.get(character, _WIDTH) for character in text)


def _in_brackets(text: str) -> str:
    """Return a text with the ends of an interval in square brackets, which are shorter."""
    return _ENDS.sub(r"[\1, \2]", text).replace("(interval not estimable)", f"[{ABSENT}]")


# Columns


def _show_columns(table: Table, block: Block) -> list[_Shown]:
    places = [place for place in block.places if not table.columns[place].is_more][:MOST_COLUMNS]
    groups = _group(block.rows, table.columns)
    shown = []
    for place in places:
        column, cells = table.columns[place], [row[place] for row in block.rows]
        kind = "l" if column.is_row_head or column.is_long or not _are_numbers(cells) else "S"
        best = {} if column.is_higher_better is None else _find_best(cells, groups, column.is_higher_better)
        shown.append(
            _Shown(
                head=_INTERVAL.sub("", column.head),
                cells=cells,
                kind=kind,
                is_row_head=column.is_row_head,
                is_long=column.is_long,
                best=best,
            )
        )
    return shown


def _group(rows: Sequence[Sequence[Cell]], columns: Sequence[Column]) -> list[list[int]]:
    """Return the rows of each training set, which are adjacent."""
    place = next((place for place, column in enumerate(columns) if column.head == "data"), None)
    texts = ["" if place is None else row[place].text for row in rows]
    return [list(found) for _, found in itertools.groupby(range(len(rows)), texts.__getitem__)]


def _are_numbers(cells: Sequence[Cell]) -> bool:
    """Whether a column has only numbers and values that are absent or not estimable."""
    numbers = [cell for cell in cells if cell.is_number and cell.value]
    return (
        all(cell.is_number for cell in cells)
        and len(numbers) > 0
        and all(_NUMBER.fullmatch(cell.text) for cell in numbers)
    )


def _compared(text: str) -> str:
    """Return what is compared of a text: of "1/10 = 10 % (...)" and "1 of 10" the rate, else a number."""
    if rate := _RATE.match(text):
        return rate[1]
    if counts := _COUNTS.fullmatch(text):
        return f"{int(counts[1]) / int(counts[2])}" if int(counts[2]) else ""
    number = _NUMBER.match(text)
    return number[2] if number else ""


def _find_best(
    cells: Sequence[Cell], groups: Sequence[Sequence[int]], is_higher_better: bool
) -> dict[int, str]:
    """Return which values of each group are the best and the second, as shown.

    Values that are shown equal are equal: all of them are the best, and then there is no second. Nothing is
    marked if more than half are the best, and no second of two.
    """
    best: dict[int, str] = {}
    for group in groups:
        values = {row: float(cells[row].value) for row in group if cells[row].value}
        texts = {row: shown for row in values if (shown := _compared(cells[row].text))}
        values |= {row: float(texts[row]) for row in texts if _COUNTS.fullmatch(cells[row].text)}
        order = sorted(texts, key=lambda row: values[row], reverse=is_higher_better)
        ranked = [list(rows) for _, rows in itertools.groupby(order, texts.__getitem__)]
        if len(ranked) < 2 or 2 * len(ranked[0]) > len(order):
            continue
        best |= dict.fromkeys(ranked[0], "best")
        if len(ranked[0]) == 1 and len(order) > 2:
            best |= dict.fromkeys(ranked[1], "second")
    return best


def _fit(columns: Sequence[_Shown], layout: Layout) -> tuple[list[_Shown], bool]:
    """Return the columns, with as few wrapped as possible, and whether they need the whole text width."""
    fitted = list(columns)
    gaps = _GAP_PT * (len(fitted) - 1)
    natural = sum(column.width_pt for column in fitted) + gaps
    if natural <= layout.text_pt:
        return fitted, natural > layout.column_pt

    # Prose first, then words, and numbers last of all; of each, the widest.
    def urgency(place: int) -> tuple[bool, bool, bool, float]:
        column = fitted[place]
        return column.is_long, column.width_pt > _NARROWEST_PT, column.kind != "S", column.width_pt

    order = sorted(range(len(fitted)), key=urgency, reverse=True)
    for place in order:
        fitted[place] = dataclasses.replace(fitted[place], kind="X")
        taken = sum(_NARROWEST_PT if column.kind == "X" else column.width_pt for column in fitted)
        if taken + gaps <= layout.text_pt and not any(
            column.is_long and column.kind != "X" for column in fitted
        ):
            break
    return fitted, True


def _share_width(columns: Sequence[_Shown], layout: Layout) -> dict[int, float]:
    """Return the width of each wrapped column in points; columns with more text are wider."""
    taken = sum(column.width_pt for column in columns if column.kind != "X") + _GAP_PT * (len(columns) - 1)
    wraps = {place: column for place, column in enumerate(columns) if column.kind == "X"}
    weights = {place: math.sqrt(max(column.width_pt, 1.0)) for place, column in wraps.items()}
    room = max(layout.text_pt - taken, _NARROWEST_PT * len(wraps))
    floor = min(_NARROWEST_PT, room / max(len(wraps), 1))
    rest, total = room - floor * len(wraps), sum(weights.values())
    return {place: floor + rest * weight / total for place, weight in weights.items()}


# A block


def _write_block(table: Table, block: Block, layout: Layout, number: int) -> Iterator[str]:
    columns, is_wide = _fit(_show_columns(table, block), layout)
    widths = _share_width(columns, layout)
    notes = [escape(note) for note in (table.meaning, *table.notes) if note]
    caption = _caption(table, block, columns)
    across = layout.text_pt if is_wide else layout.column_pt
    notes_pt = sum(_LINE_PT * math.ceil(_width(note) / across) for note in notes)
    caption_pt = _CAPTION_PT * math.ceil(1.25 * _width(caption) / across)
    room = max(_PAGE_PT - notes_pt - caption_pt, _FEWEST_LINES * _LINE_PT)
    parts = list(_paginate(block.rows, columns, widths, room))
    groups = {row: index for index, rows in enumerate(_group(block.rows, table.columns)) for row in rows}
    environment = "table*" if is_wide and layout.column_pt < layout.text_pt else "table"
    for part, rows in enumerate(parts, start=1):
        label = f"tab:{table.name}-{number}" + (f"-{part}" if len(parts) > 1 else "")
        more = f" Part {part} of {len(parts)}." if len(parts) > 1 else ""
        kind = r"tabularx}{\linewidth" if widths else "tabular"
        lines = [
            rf"\begin{{{environment}}}[tbp]",
            *_SETUP,
            r"\centering",
            rf"\caption{{{escape(caption + more)}}}",
            rf"\label{{{label}}}",
            rf"\begin{{{kind}}}{{@{{}}{''.join(_specify(columns, widths))}@{{}}}}",
            r"\toprule",
            _join(_head(column, widths.get(place)) for place, column in enumerate(columns)),
            r"\midrule",
            *_rows(columns, rows, groups),
            r"\bottomrule",
            rf"\end{{{kind.partition('}')[0]}}}",
            *((rf"\par\smallskip\raggedright {note}" for note in notes) if part == len(parts) else ()),
            rf"\end{{{environment}}}",
        ]
        yield "\n".join(lines) + "\n"


def _caption(table: Table, block: Block, columns: Sequence[_Shown]) -> str:
    """Return the caption: what is shown, n, intervals and marks."""
    place, title = match.groups() if (match := _PLACE.fullmatch(table.title)) else ("", table.title)
    sentences = [f"{title} ({place} of the report)" if place else title]
    sentences += [f"Setting: {block.setting}"] if block.setting else []
    names = [name for name in (table.sizes or table.sample[:1]) if name in block.frame]
    counts = [number for name in names for number in block.frame[name].dropna() if number or not table.sizes]
    if counts:
        low, high = int(min(counts)), int(max(counts))
        fewest = "" if low == high else f"{low} to "
        sentences.append(f"n = {fewest}{count(high, table.sample[1])} per row")
    shown = [column for column in table.columns if not column.is_more]
    intervals: dict[str, list[str]] = {}
    for column in shown:
        for found in _INTERVAL.findall(column.head):
            intervals.setdefault(found, []).append(_INTERVAL.sub("", column.head))
    if len(intervals) == 1:
        (half,) = intervals
        sentences.append(f"After ±: {half[2:]}" if half.startswith("±") else f"In brackets: {half}")
    elif intervals:
        told = (f"of {' and of '.join(heads)}, {interval}" for interval, heads in intervals.items())
        sentences.append(f"In brackets: {'; '.join(told)}")
    if marks := {mark for column in columns for mark in column.best.values()}:
        second = "; underlined: the second" if "second" in marks else ""
        each = " of each training set" if any(column.head == "data" for column in columns) else ""
        sentences.append(f"Bold: the best{each}{second}; this is not a test")
    return ". ".join(text.strip().rstrip(".") for text in sentences if text) + "."


def _paginate(
    rows: Sequence[Sequence[Cell]], columns: Sequence[_Shown], widths: Mapping[int, float], room_pt: float
) -> Iterator[list[int]]:
    """Yield the rows of each page."""
    page: list[int] = []
    taken = 0.0
    for row in range(len(rows)):
        wrapped = (
            math.ceil(1.15 * _width(columns[place].cells[row].text) / width)
            for place, width in widths.items()
        )
        height = _LINE_PT * max(1, *wrapped) if widths else _LINE_PT
        if page and taken + height > room_pt:
            yield page
            page, taken = [], 0.0
        page.append(row)
        taken += height
    yield page


def _specify(columns: Sequence[_Shown], widths: Mapping[int, float]) -> Iterator[str]:
    """Yield the letters of columns."""
    mean = sum(widths.values()) / len(widths) if widths else 1.0
    for place, column in enumerate(columns):
        if column.kind == "X":
            yield rf">{{\hsize={widths[place] / mean:.3f}\hsize\raggedright\arraybackslash}}X"
        elif column.kind == "S":
            yield f"S[{_format(column)}]"
        else:
            yield "l"


def _format(column: _Shown) -> str:
    """Return the width that siunitx reserves for numbers, and for the text after them."""
    found = [match for cell in column.cells if (match := _NUMBER.fullmatch(cell.text))]
    numbers = [match[2].replace(",", "") for match in found]
    sign = "+" if any(number[0] in "+−" for number in numbers) else ""
    wholes = max(len(number.lstrip("+−").partition(".")[0]) for number in numbers)
    decimals = max(len(number.partition(".")[2]) for number in numbers)
    behind = max((_in_brackets(match[3]) for match in found), key=_width)
    # Reckoned where a number is bold, too, and is to be as wide there.
    room = rf", table-space-text-post={{\mdseries{{}}{_set_behind(behind)}}}" if behind else ""
    return f"table-format={sign}{wholes}.{decimals}{room}"


def _set_behind(text: str) -> str:
    return escape(text).replace(" ", "~") if text else ""


def _head(column: _Shown, width_pt: float | None) -> str:
    """Return a head, wrapped to the width of its column."""
    lines, words = [""], column.head.split()
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and _width(longer) > (width_pt or column.width_pt):
            lines.append(word)
        else:
            lines[-1] = longer
    text = r" \\ ".join(map(escape, lines))
    if len(lines) > 1:
        aligned = "c" if column.kind == "S" else "l"
        text = rf"\begin{{tabular}}[b]{{@{{}}{aligned}@{{}}}}{text}\end{{tabular}}"
    return f"{{{text}}}" if column.kind == "S" else text


def _rows(columns: Sequence[_Shown], rows: Sequence[int], groups: Mapping[int, int]) -> Iterator[str]:
    """Yield rows; row heads are not repeated, and training sets are separated."""
    heads = [place for place, column in enumerate(columns) if column.is_row_head][:-1]
    above: int | None = None
    for row in rows:
        is_new = above is None or groups[row] != groups[above]
        if is_new and above is not None:
            yield r"\addlinespace"
        texts = []
        is_same = above is not None
        for place, column in enumerate(columns):
            is_same = is_same and place in heads and column.cells[row].text == column.cells[above or 0].text
            texts.append("" if is_same else _cell(column, row))
        yield _join(texts)
        above = row


def _join(texts: Iterator[str] | Sequence[str]) -> str:
    row = " & ".join(texts)
    # The row before ends with a command that would take these for its own.
    return ("{}" if row.startswith(("[", "*")) else "") + row + r" \\"


def _cell(column: _Shown, row: int) -> str:
    text, mark = _in_brackets(column.cells[row].text), column.best.get(row, "")
    match = _NUMBER.fullmatch(text)
    if column.kind == "S":
        if match is None or match[1]:
            return rf"{{{escape(text).replace(' ', '~')}}}"
        number, behind = match[2].replace("−", "-").replace(",", ""), match[3]
        behind = _set_behind(behind)
        if mark == "second":
            behind = rf"\runnerup{{{escape(match[2])}}}{behind}"
        if mark == "best":
            number, behind = rf"\bfseries {number}", rf"\mdseries{{}}{behind}" if behind else ""
        return f"{number} {{{behind}}}" if behind else number
    written = _breakable if column.kind == "X" else escape
    if mark and match is not None:
        command = r"\textbf" if mark == "best" else r"\underline"
        return f"{escape(match[1] or '')}{command}{{{escape(match[2])}}}{written(match[3])}"
    return written(text)
