"""Words that readers need not learn, what to write instead, and where the texts of this project stand."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

_COUNTED = r"(?:one|rows?|draws?|values?|files?|entr(?:y|ies)|lines?|numbers?|seconds?|steps?|images?)"
_EACH = (
    r"(?:cell|seed|stage|class|lane|run|round|trial|study|image|node|file|line|group|item|row|epoch|step"
    r"|second|method|set|search|rung|name|process|worker|core|machine|pixel)"
)
_SHARE = rf"\b(?!images a step){_COUNTED} an? {_EACH}\b"
"""as in: one row a cell; "images a step" is a unit by which stored searches are compared"""

BANNED: dict[str, str] = {
    r"takes? no more": "is full, or cannot be written",
    r"plain name": "name of an unchanged cell",
    r"pass(?:es|ed)? (?:by|over)\b": "ignored, left out",
    r"(?:is|are|be|was|were) had\b": "comes from, is available",
    r"\bsheets?\b": "grid of samples",
    r"\bdrivers?\b(?! of a GPU|-|:)": "sweep, or main process",
    r"of (?:one|a user|the user)'s own": "of your own, a user's",
    r"\banew\b": "again, or new",
    r"at once\b": "immediately, or at the same time",
    r"\belsewhere\b": "say where: another machine, another place",
    r"\bat hand\b": "available, loaded",
    r"(?:its|their|the) like\b(?! )": "and similar ones",
    r"as it goes on": "while it runs",
    r"\btold\b": "reported, given, known; told apart: distinguished",
    r"\blets? go\b": "releases",
    r"tak(?:e|es|en|ing) up again": "resume",
    r"tak(?:e|es|en|ing) for (?:a|an|the|another|which)\b": "mistake for, classify as",
    r"\bbears?\b": "has",
    r"equally far": "at the same round",
    r"\bfor good\b": "permanently",
    r"(?<!there\s)\b(?:is|are|was|were) no (?!longer|more|larger|smaller|better|worse|one)": "is not a",
    r"\bbesides\b": "also",
    r"\bbut for\b": "except",
    r"so many\b(?! that)": "this many, or the number by name",
    r"\bso much\b(?! that)": "this much",
    _SHARE: "per",
    r"\bgo(?:es)? by\b": "uses",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"\bat fault\b": "the cause",
    r"faults? of (?:this|the) (?:program|code)": "bug in this program",
    r"(?:is|are) wanted\b": "is needed",
    r"\bheed(?:s|ed)?\b": "use, follow",
    r"c(?:omes?|ame|ome) out well": "succeed",
    r"(?:is|are) not so\b": "say what it is not",
    r"\bhand(?:s|ed|ing)? on\b": "pass",
    r"\bholds? that\b": "checks that",
    r'\b(?:none|empty|nothing|false|true|"") where\b': "if",
    r"\bst(?:ands?|ood)\b(?!-| for\b| out\b)": "is; follows, precedes; in the way: blocks",
    r"\bl(?:ies?|ying|ain)\b(?! in \[| between| within| on or)": "is at, is in",
    r"\bbelow itself\b": "in itself",
    r"\bthereof\b": "of it",
    r"\bwhence\b": "from which",
    r"\bwhat (?:becomes?|became) of\b": "how it ends",
}
"""pattern (a space stands for any white space): what to write instead"""


def find_banned(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield the line (from 0), the words and their replacement of each banned pattern in a text."""
    for pattern, instead in COMPILED:
        for found in pattern.finditer(text):
            yield text.count("\n", 0, found.start()), " ".join(found[0].split()), instead


COMPILED = [(re.compile(words.replace(" ", r"\s+"), re.IGNORECASE), to) for words, to in BANNED.items()]


def read_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring, comment and string of several words in a Python file.

    Joined literals are one text; each value of an f-string is an ellipsis. Words in back quotes are left out.
    """
    source = path.read_text(encoding="utf-8")
    for line, text in [*_read_strings(ast.parse(source)), *_read_comments(source)]:
        yield line, leave_out_quotes(text)


def read_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring and comment in a Python file, without words in back quotes."""
    source = path.read_text(encoding="utf-8")
    alone = (each.value for each in ast.walk(ast.parse(source)) if isinstance(each, ast.Expr))
    docstrings = (found for each in alone if isinstance(each, ast.Constant) for found in _read_strings(each))
    for line, text in [*docstrings, *_read_comments(source)]:
        yield line, leave_out_quotes(text)


def leave_out_quotes(text: str) -> str:
    """Return a text without what it has in back quotes; every line keeps its length."""
    return re.sub(r"`[^`\n]*`", lambda quoted: "`" * len(quoted[0]), text)


def _read_strings(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.JoinedStr):
        parts = [each.value if isinstance(each, ast.Constant) else "…" for each in node.values]
        yield node.lineno, "".join(map(str, parts))
        for each in node.values:
            if not isinstance(each, ast.Constant):
                yield from _read_strings(each)
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
        yield node.lineno, node.value
    for child in ast.iter_child_nodes(node):
        yield from _read_strings(child)


def _read_comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield each comment; comments on lines that follow each other are one text."""
    start, lines = 0, []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if lines and token.start[0] != start + len(lines):
                yield start, "\n".join(lines)
                lines = []
            start = start if lines else token.start[0]
            lines.append(token.string.lstrip("# "))
    if lines:
        yield start, "\n".join(lines)
