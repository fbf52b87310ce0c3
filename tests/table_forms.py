"""One small table in the forms in which people keep it, and files that are no such table, for training and scoring."""

from __future__ import annotations

import gzip
import io
import zipfile

import pandas as pd

from abalone.data.reading import read
from abalone.model.columns import MEASUREMENTS

UCI = read().frame
TABLE = pd.concat([UCI[UCI["Rings"] < 10].head(12), UCI[UCI["Rings"] >= 10].head(12)], ignore_index=True)
PLAYGROUND = {"Shucked weight": "Whole weight.1", "Viscera weight": "Whole weight.2"}
R_NAMES = ("Type", "LongestShell", "Diameter", "Height", "WholeWeight", "ShuckedWeight", "VisceraWeight", "ShellWeight")
WORDS = {"M": "male", "F": "Female", "I": "infant"}


def csv(frame: pd.DataFrame = TABLE, **options) -> str:
    """The table as CSV text without an index."""
    return frame.to_csv(index=False, **options)


def zipped(compression: int = zipfile.ZIP_STORED, **files: str) -> bytes:
    """A zip archive of these files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def in_mm_and_g(frame: pd.DataFrame = TABLE) -> pd.DataFrame:
    """The table in millimetres and grams."""
    return frame.assign(**(frame[list(MEASUREMENTS)] * 200).round(6))


def with_blanks(text: str) -> str:
    """Columns separated by several blanks."""
    return text.replace(",", "   ").replace("\n", "  \n")


BARE = csv(header=False)
ARFF = f"""% Abalone, as OpenML gives it
@RELATION abalone

@ATTRIBUTE Sex {{M, F, I}}
@ATTRIBUTE Length REAL
@attribute Diameter numeric
@ATTRIBUTE Height REAL
@ATTRIBUTE 'Whole weight' REAL
@ATTRIBUTE "Shucked weight" REAL
@ATTRIBUTE Viscera_weight REAL
@ATTRIBUTE Shell_weight REAL
@ATTRIBUTE Class_number_of_rings {{5,7,8,9}}

@DATA
% a comment
{BARE}"""
FORMS = {
    "no header": BARE,
    "header": csv(),
    "reversed": csv(TABLE[TABLE.columns[::-1]]),
    "lower case with BOM": "\ufeff" + csv(TABLE.rename(columns=str.lower)),
    "quotes and points": csv(TABLE.rename(columns=lambda name: name.replace(" ", ".")), quoting=2),
    "underscores and padding": csv(TABLE.rename(columns=lambda name: f" {name.replace(' ', '_')} ")).replace(
        ",", " , "
    ),
    "an index": TABLE.to_csv(),
    "an index with names separated by tabs": TABLE.to_csv(sep="\t"),
    "R's write.table": TABLE.to_csv(sep=" ", quoting=2).removeprefix('"" '),
    "id and empty columns": csv(TABLE.assign(id=1, note='5" long', empty="")[["id", *TABLE.columns, "note", "empty"]]),
    "a comma at the end of lines": BARE.replace("\n", ",\n").join([",".join(TABLE.columns) + "\n", ""]),
    "the Kaggle playground": csv(TABLE.rename(columns=PLAYGROUND).rename_axis("id").reset_index()),
    "R's AppliedPredictiveModeling": csv(TABLE.set_axis([*R_NAMES, "Rings"], axis=1)),
    "gender and gut": csv(TABLE.rename(columns={"Sex": "gender", "Viscera weight": "gut weight"})),
    "semicolons": csv(sep=";"),
    "decimal commas": csv(sep=";", decimal=","),
    "decimal commas without header": csv(sep=";", decimal=",", header=False),
    "tabs": csv(sep="\t"),
    "tabs and decimal commas": csv(sep="\t", decimal=","),
    "spaces": with_blanks(BARE),
    "spaces and names of two words": with_blanks(csv()),
    "as pandas prints it": TABLE.to_string(),
    "CRLF": csv().replace("\n", "\r\n"),
    "CR": csv().replace("\n", "\r"),
    "blank lines": "\n \n" + csv().replace("\n", "\n\n") + "\r\n",
    "UTF-16": csv().encode("utf-16"),
    "UTF-16 without BOM": csv().encode("utf-16-le"),
    "UTF-16, big end first": csv().encode("utf-16-be"),
    "gzip": gzip.compress(csv().encode()),
    "gzip of UTF-16": gzip.compress(csv(sep="\t").encode("utf-16")),
    "zip whose file would be elsewhere": zipped(**{"../../train.csv": csv()}),
    "zip": zipped(**{"train.csv": csv(), "__MACOSX/._train.csv": "x"}),
    "ARFF": ARFF,
    "ARFF with CRLF": ARFF.replace("\n", "\r\n"),
    "sex in lower case": csv(TABLE.assign(Sex=TABLE["Sex"].str.lower())),
    "sex in words": csv(TABLE.assign(Sex=TABLE["Sex"].map(WORDS))),
    "names and values in quotes": TABLE.to_csv(index=False, quoting=1),
    "semicolons and quotes": TABLE.to_csv(index=False, quoting=1, sep=";", decimal=","),
    "Excel's line about the separator": "sep=;\n" + csv(sep=";"),
    "rows without content, as Excel writes them": csv() + "," * 8 + "\n" + "," * 8 + "\n",
    "a no-break space before a value": csv().replace("M,0.35,", "M,\u00a00.35,", 1),
    "rings as decimals": csv(TABLE.astype({"Rings": float})),
    "OpenML's target": csv(TABLE.rename(columns={"Rings": "Class_number_of_rings"})),
}

HEADER = csv(TABLE.head(0))
REFUSED = {
    "empty": (b"", "no rows; expected the columns Sex, Length"),
    "blank": (b" \n\n", "no rows; expected the columns Sex, Length"),
    "header only": (HEADER, "no rows below the header"),
    "text only": ("Dear colleague,\nthe data follow.\n", "missing columns Sex, Length, .*; found Dear colleague"),
    "a column less": (csv(TABLE.drop(columns="Height")), "missing column Height; found Sex, Length, Diameter, Whole"),
    "a column twice": (csv().replace("Height", "length", 1).replace("Length", "LENGTH", 1), "Length appears more than"),
    "an index without header": (TABLE.to_csv(header=False), "line 1: 10 columns and no header; expected 8 or 9: Sex"),
    "numbers for sex": (csv(TABLE.assign(Sex=1)), "line 2: Sex is '1', expected M, F or I; there is no one code"),
    "numbers for sex without header": (
        csv(TABLE.assign(Sex=0), header=False),
        "line 1: Sex is '0', expected M, F or I",
    ),
    "another order without header": (csv(TABLE[TABLE.columns[::-1]], header=False), "line 1: Sex is '7', expected M"),
    "millimetres": (csv(in_mm_and_g()), "look like millimetres and grams: give -P units=mm_g"),
    "centimetres": (
        csv(TABLE.assign(**{name: TABLE[name] * 20 for name in ("Length", "Diameter", "Height")})),
        "look like centimetres",
    ),
    "weights in grams, lengths divided by 200": (
        csv(TABLE.assign(**{name: TABLE[name] * 200 for name in TABLE if "weight" in name})),
        "the weights look like grams, the lengths do not",
    ),
    "a short line": (csv() + "M,1\n", "line 26: 2 columns, expected 9: Sex, Length"),
    "a long line": (csv(sep=";") + "M;" * 9 + "\n", "line 26: 10 columns, expected 9"),
    "an open quote": (
        csv() + 'M,"0.35,1,1,1,1,1,1,1\n',
        "line 26: unexpected end of data; quotes must enclose a whole",
    ),
    "a value that is missing": (csv().replace("M,0.35,", "M,,", 1), "line 2: Length is missing"),
    "a value that ARFF calls missing": (
        ARFF.replace("M,0.35,", "M,?,", 1),
        "line 16: Length is missing",
    ),
    "both kinds of decimals": (
        csv(sep=";").replace("0.35;", "0,35;", 1),
        "line 2: Length is '0,35', expected a number",
    ),
    "UTF-16 cut short": (csv().encode("utf-16")[:-1], "not text in UTF-8 or UTF-16"),
    "an image": (b"\x89PNG\r\n\x1a\n\xff\xfe", "not text"),
    "two files": (zipped(a="1", b="2"), r"a zip archive of 2 files \(a, b\); expected one table"),
    "a zip that lacks some bytes": (
        zipped(a="1")[:10] + zipped(a="1")[13:],
        "cannot be decompressed",
    ),
    "a zip of another compression": (zipped(a="1", compression=zipfile.ZIP_LZMA), "of compression method 14; expected"),
    "gzip cut short": (gzip.compress(csv().encode())[:-9], "cannot be decompressed"),
    "a broken zip": (zipped(a="1")[:-9], "cannot be decompressed"),
}


def as_bytes(content: str | bytes) -> bytes:
    """The content of a file."""
    return content if isinstance(content, bytes) else content.encode()
