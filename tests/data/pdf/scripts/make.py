#!/usr/bin/env python3
"""Makes the PDF files of scripts in this folder, each from the text that stands beside it. See README.md."""

import html
import pathlib
import subprocess
import tempfile

from fontTools import subset
from weasyprint import HTML

NOTO = "/usr/share/fonts/truetype/noto"
CJK = "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"
# Name: direction, fonts with their faces, width of the column.
BY_WEASYPRINT = {
    "hebrew": ("rtl", [(f"{NOTO}/NotoSansHebrew-Regular.ttf", 0), (f"{NOTO}/NotoSans-Regular.ttf", 0)], "70mm"),
    "arabic": ("rtl", [(f"{NOTO}/NotoNaskhArabic-Regular.ttf", 0), (f"{NOTO}/NotoSans-Regular.ttf", 0)], "70mm"),
    "mixed": ("ltr", [(f"{NOTO}/NotoSans-Regular.ttf", 0), (f"{NOTO}/NotoSansHebrew-Regular.ttf", 0)], "100mm"),
    "kana": ("ltr", [(CJK, 0)], "70mm"),
    "hangul": ("ltr", [(CJK, 1)], "70mm"),
    "han": ("ltr", [(CJK, 2)], "70mm"),
}
BY_CAIRO = {"hebrew-cairo": ["--rtl", "--font", "Noto Sans Hebrew 12"], "arabic-cairo": ["--rtl", "--font", "Noto Naskh Arabic 12"],
            "thai-cairo": ["--font", "Noto Sans Thai 12"]}


def face(path, number, text, folder, name):
    """The font with the letters of the text only, which keeps the files small."""
    options = subset.Options(hinting=False, desubroutinize=True, font_number=number, name_IDs=[1, 2])
    font = subset.load_font(path, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(text=text)
    subsetter.subset(font)
    file = folder / f"{name}.font"
    subset.save_font(font, str(file), options)
    return f'@font-face{{font-family:"{name}";src:url("{file.as_uri()}")}}'


def paragraph(line, name):
    """Korean is broken at spaces, as its rules have it: where a word is broken, nothing in the file says that it is one."""
    if name != "hangul":
        return html.escape(line)
    return " ".join(f'<span style="display:inline-block">{html.escape(word)}</span>' for word in line.split(" "))


def main():
    here = pathlib.Path(__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        for name, (direction, fonts, width) in BY_WEASYPRINT.items():
            text = (here / f"{name}.txt").read_text()
            names = [f"{name}{n}" for n in range(len(fonts))]
            faces = "".join(face(*font, text, pathlib.Path(folder), n) for font, n in zip(fonts, names))
            style = f"{faces}@page{{size:A5}}body{{font:12px {','.join(names)};width:{width}}}"
            body = "".join(f"<p>{paragraph(line, name)}</p>" for line in text.splitlines())
            HTML(string=f'<html dir="{direction}"><style>{style}</style>{body}</html>').write_pdf(here / f"{name}.pdf")
    for name, options in BY_CAIRO.items():
        where = ["--output", str(here / f"{name}.pdf"), str(here / f"{name}.txt")]
        subprocess.run(["pango-view", "--no-display", "--width", "260", *options, *where], check=True)


main()
