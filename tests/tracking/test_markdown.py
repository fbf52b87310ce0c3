"""Markdown that reads well both rendered and in a terminal."""

from __future__ import annotations

import pytest

from abalone.tracking.markdown import as_code, escape, format_score, markdown_table


def test_the_columns_of_a_table_are_aligned():
    assert markdown_table(("stage", "AUC"), [("classify", "0.8"), ("rings", "0.8800")]) == "\n".join(
        [
            "| stage    | AUC    |",
            "| -------- | ------ |",
            "| classify | 0.8    |",
            "| rings    | 0.8800 |",
        ]
    )


def test_a_table_without_rows_is_a_header():
    assert markdown_table(("stage",), []) == "| stage |\n| ----- |"


def test_a_score_has_four_decimals_or_is_a_dash():
    assert format_score(0.74564) == "0.7456"
    assert format_score(None) == "–"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("tuned encode_2 (*best*)", "tuned encode_2 (*best*)"),
        ("[a](b)", r"\[a\](b)"),
        ("a | b\n# c", r"a \| b # c"),
        ("\\[a](b) `c`", r"\\\[a\](b) \`c\`"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("https://evil.example www.evil.example", "https&#58;//evil.example www&#46;evil.example"),
    ],
)
def test_a_text_without_effect_as_markdown(text, shown):
    assert escape(text) == shown


@pytest.mark.parametrize(
    "text, shown", [("a b", "`a b`"), ("a\n\nb", "`a b`"), ("a`b", "`` a`b ``"), ("``a```", "```` ``a``` ````")]
)
def test_code_that_its_text_cannot_end(text, shown):
    assert as_code(text) == shown
