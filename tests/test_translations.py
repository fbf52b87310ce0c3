"""The pages in Portuguese are whole, and in step with those in English."""

from __future__ import annotations

import re
from itertools import zip_longest

import pytest
from helpers import ROOT

PAGES = {"README.md": "README.pt-BR.md", "docs/guide.md": "docs/guide.pt-BR.md"}
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
INDENTED = re.compile(r"^    \S.*$", re.M)
IN_PORTUGUESE = ".pt-BR"


@pytest.fixture(params=PAGES, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[list[str], list[str]]:
    """The sections of a page and of its translation."""
    return sections(request.param), sections(PAGES[request.param])


def test_the_headings_have_the_same_levels(pair):
    english, portuguese = pair
    assert [level(section) for section in english] == [level(section) for section in portuguese]


def test_every_section_has_the_same_blocks_of_code(pair):
    for english, portuguese in zip_longest(*pair, fillvalue=""):
        assert FENCE.findall(english) == FENCE.findall(portuguese)
        assert INDENTED.findall(english) == INDENTED.findall(portuguese)


def test_every_section_has_tables_of_the_same_length_and_paragraphs_in_the_same_number(pair):
    for english, portuguese in zip_longest(*pair, fillvalue=""):
        title = english.partition("\n")[0]
        assert table_rows(english) == table_rows(portuguese), title
        assert len(english.split("\n\n")) == len(portuguese.split("\n\n")), title


def test_every_section_names_the_same_commands_files_and_keys(pair):
    for english, portuguese in zip_longest(*pair, fillvalue=""):
        assert code_words(english) == code_words(portuguese), english.partition("\n")[0]


def test_every_section_links_to_the_same_pages(pair):
    english, portuguese = pair
    for section, translated in zip(english[1:], portuguese[1:]):  # the first has the links to the other language
        assert links(section) == links(translated), section.partition("\n")[0]


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_link_to_each_other_at_the_top(page):
    translation = PAGES[page]
    assert f"({translation.rpartition('/')[2]})" in sections(page)[0]
    assert f"({page.rpartition('/')[2]})" in sections(translation)[0]


def test_the_numbers_are_the_same_but_for_the_decimal_comma(pair):
    for english, portuguese in zip_longest(*pair, fillvalue=""):
        assert numbers(english) == numbers(portuguese), english.partition("\n")[0]


def sections(page: str) -> list[str]:
    """The text of a page, cut before each heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.split(r"^(?=#+ )", text, flags=re.M)[1:]


def level(section: str) -> int:
    return len(section) - len(section.lstrip("#"))


def table_rows(section: str) -> int:
    return len(re.findall(r"^\|", FENCE.sub("", section), re.M))


def code_words(section: str) -> list[str]:
    """Everything that is set as code in the running text, once."""
    found = re.findall(r"`([^`]+)`", FENCE.sub("", section))
    return sorted({" ".join(words.split()) for words in found})


def links(section: str) -> list[str]:
    """The targets of all links, without the mark of a page in Portuguese."""
    return sorted(target.replace(IN_PORTUGUESE, "") for target in re.findall(r"\]\(([^)]+)\)", section))


def numbers(section: str) -> list[str]:
    """The numbers with a decimal part in the running text, in Portuguese as they would be in English."""
    prose = re.sub(r"`[^`]+`", "", FENCE.sub("", section))
    found = re.findall(r"(?<![\w.,])\d*[.,]\d+(?![\w.,]*\d)", prose)
    return sorted(f"{float(number.replace(',', '.')):g}" for number in found)
