"""The package is written in plain English: a few words that hide the thing they mean are rare in its prose.

Each word has a plain replacement: "next to" or "in addition to" for beside, a verb that says the act for told and
tells, and the name of the thing or the person for nobody, whatever and whoever.
"""

import io
import re
import tokenize
from collections import Counter

import pytest
from places import ROOT

FOLDERS = ("cli", "export", "integrations", "root", "runtime", "tiling")
COUNTS_AT_E5CA2BE = {"beside": 58, "nobody": 34, "tells": 21, "told": 15, "whatever": 29, "whoever": 14}
"""How often the prose of `FOLDERS` held each word before it was rewritten (commit e5ca2be)."""
LIMITS = {word: count // 10 for word, count in COUNTS_AT_E5CA2BE.items()}
PROSE_TOKENS = {"COMMENT", "STRING", "FSTRING_MIDDLE", "TSTRING_MIDDLE"}  # the last two exist from Python 3.12 and 3.14
WORD = re.compile(rf"\b({'|'.join(LIMITS)})\b", re.IGNORECASE)


def test_the_prose_of_the_package_is_plain_english() -> None:
    found = [
        (word, f"{path.relative_to(ROOT).as_posix()}:{line}")
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for word, line in words_in(path.read_text(encoding="utf-8"))
    ]
    counts = Counter(word for word, _ in found)
    assert [f"{place} {word}" for word, place in found if counts[word] > LIMITS[word]] == []


@pytest.mark.parametrize("word", LIMITS)
@pytest.mark.parametrize(
    ("code", "line"),
    [
        ('"""A file {word} another."""', 1),
        ("x = 1\ny = 2  # {word}", 2),
        ("raise ValueError(f'{x}: {word} {y}')", 1),
        ("text = 'one' '''\ntwo {word}'''", 2),
    ],
)
def test_the_check_finds_each_word_in_each_kind_of_prose(code: str, line: int, word: str) -> None:
    for spelling in (word, word.capitalize()):
        assert list(words_in(code.replace("{word}", spelling))) == [(word, line)]


def test_the_check_leaves_names_and_longer_words_out() -> None:
    assert list(words_in("beside = told.tells(nobody)  # besides, an untold story\n")) == []


def words_in(code: str) -> list[tuple[str, int]]:
    """The words of `LIMITS` in the docstrings, comments and string literals of Python code, each with its line."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if tokenize.tok_name[token.type] in PROSE_TOKENS:
            for match in WORD.finditer(token.string):
                line = token.start[0] + token.string.count("\n", 0, match.start())
                found.append((match[0].lower(), line))
    return found
