"""Markdown that reads well both rendered and in a terminal."""

from __future__ import annotations

from abalone.tracking.markdown import format_score, markdown_table


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
