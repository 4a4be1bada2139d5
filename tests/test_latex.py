"""Tables for a paper: what they say to the letter, and that LaTeX takes whatever a run may be called."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leaderboard.latex import document, latex
from leaderboard.latex_text import breakable, escape
from leaderboard.sheet import Cell, Line, Verdict
from tests.programs import program
from tests.sample_sheets import AUC, LOSS, MASS, NASTY, cell, measured, reported, sequential, small, tallrec

SMALL = r"""% Made by `harness leaderboard`: a table for each leaderboard, to be read by \input.
% Before \begin{document} it needs \usepackage{array,booktabs,graphicx}.

\begin{table}[htbp]
\centering
\caption{palr, test {[}sample 10, seed 0{]}, version 1. Brackets: 95~\% interval. $^{\dagger}$: level with the best.}
\label{tab:leaderboard-0a1b2c3d}
\par\medskip
\resizebox*{!}{\ifdim\totalheight>0.8\textheight 0.8\textheight\else\totalheight\fi}{%
\begin{minipage}{\linewidth}\centering\small
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{lllrrrrr}
\toprule
Model & AUC $\uparrow$ & LogLoss $\downarrow$ & n & failed & parsed & tokens & time \\
\midrule
models/tiny\_1 & \textbf{0.8000} {\scriptsize [0.7000, 0.9000]} & \underline{0.5000} & 1,000 & 12.5~\% & 98.8~\% & 175,000 / 20 & 2.5 min \\
simple:random & \underline{0.7500}$^{\dagger}$ & \textbf{0.4000} &  &  &  &  & cached \\
search:bm25\textsuperscript{a} & {\scriptsize n/a} & {\scriptsize n/a} &  &  &  &  &  \\
\midrule
\emph{chance} & 0.5000 &  &  &  &  &  &  \\
\midrule
PALR \emph{(reported: not attempted)}\textsuperscript{b,c} & 0.9000 &  &  &  &  &  &  \\
P5 \emph{(reported)}\textsuperscript{d,c} & 0.8500 &  &  &  &  &  &  \\
\bottomrule
\end{tabular}}
\par\smallskip\footnotesize\raggedright
\textsuperscript{a}~no query\par
\textsuperscript{b}~differs in model\par
\textsuperscript{c}~Table 2\par
\textsuperscript{d}~three seeds at most\par
\end{minipage}}
\end{table}
"""  # noqa: E501  # what LaTeX reads, line by line as it is written


def test_a_table_to_the_letter() -> None:
    best = {
        "AUC": replace(cell(0.8, 0.1), place="best"),
        "LogLoss": Cell(0.5, place="second"),
        "yes_no_mass": Cell(0.9),
    }
    second = {"AUC": Cell(0.75, place="second", level=True), "LogLoss": Cell(0.4, place="best")}
    sheet = small(
        reported("PALR", {"AUC": Cell(0.9)}, Verdict("not attempted", "differs in model"), "Table 2"),
        Line("models/tiny_1", "language model", best, "r1", 1000, 0.125, 0.98765, (175_000, 20), 150.0),
        Line("chance", "chance", {"AUC": Cell(0.5)}),
        Line("simple:random", "baseline", second, "r2", seconds=3.0, cached=True),
        Line("search:bm25", "baseline", {name: Cell(None, why="n/a") for name in ("AUC", "LogLoss")}, note="no query"),
        replace(reported("P5", {"AUC": Cell(0.85)}, source="Table 2"), note="three seeds at most"),
        title="palr, test [sample 10, seed 0], version 1",
        notes=["Brackets: 95 % interval.", "†: level with the best."],
    )
    assert MASS in sheet.columns
    assert latex([sheet]) == SMALL


def test_many_metrics_have_their_intervals_below() -> None:
    row = next(line for line in latex([sequential()]).splitlines() if line.startswith("recbole:GRU4Rec"))
    below = r"\begin{tabular}[t]{@{}l@{}}%s\\[-0.5ex]{\scriptsize %s}\end{tabular}"
    assert row.split(" & ")[1:3] == [
        below % (r"\underline{0.3803}$^{\dagger}$", "[0.3613, 0.3993]"),
        below % (r"\underline{0.2282}$^{\dagger}$", "[0.2092, 0.2472]"),
    ]


def test_long_names_get_a_column_that_breaks_lines() -> None:
    assert r"\begin{tabular}{>{\raggedright\arraybackslash}p{6cm}lllrrrrr}" in latex([tallrec()])
    assert breakable("a/b c") == "a/b c"
    assert breakable("runs/a-very-long_name/of-a-run") == (
        r"runs/\allowbreak{}a-\allowbreak{}very-\allowbreak{}long\_\allowbreak{}name/\allowbreak{}of-\allowbreak{}a-\allowbreak{}run"
    )


def test_more_notes_than_letters() -> None:
    rows = [Line(f"m{n}", "baseline", {"AUC": Cell(0.5)}, note=f"note {n}") for n in range(29)]
    text = latex([small(*rows)])
    assert [re.findall(rf"^m{n}\\textsuperscript{{(\w+)}}", text, re.MULTILINE) for n in (0, 25, 26, 28)] == [
        ["a"],
        ["z"],
        ["aa"],
        ["ac"],
    ]
    assert r"\textsuperscript{ac}~note 28\par" in text


@pytest.mark.parametrize(
    ("text", "set_as"),
    [
        ("a_b%c&d#e$f{g}h", r"a\_b\%c\&d\#e\$f\{g\}h"),
        ("i~j^k\\l", r"i\textasciitilde{}j\textasciicircum{}k\textbackslash{}l"),
        ("5 % of <x|y>", r"5~\% of \textless{}x\textbar{}y\textgreater{}"),
        ("[t] *s*", "{[}t{]} {*}s{*}"),
        ("--w 'a' ''b'' \"c\"", "-{}-w 'a' '{}'b'{}' ''c''"),
        ("… – × ≤ “q”", r"\ldots{} -- $\times$ $\leq$ ``q''"),
        ("üéñÅşı ắ", r"\"{u}\'{e}\~{n}\r{A}\c{s}\i{} \'{\u{a}}"),
        ("ïß ŁØ", r"\"{\i}\ss{} \L{}\O{}"),
        ("e\u0301 ﬁ ２", r"\'{e} fi 2"),
        ("中 😀", "{[}U+4E2D{]} {[}U+1F600{]}"),
        ("a\n\tb\x00\u200bc", "a bc"),
        ("", ""),
    ],
)
def test_text_as_latex(text: str, set_as: str) -> None:
    assert escape(text) == set_as


@given(st.text())
def test_any_text_is_ascii_with_no_bare_special_sign(text: str) -> None:
    made = escape(text)
    assert made.isascii()
    assert made.isprintable() or not made
    assert not re.search(r"(?<!\\)[%&#]", made)
    plain = re.sub(r"\\[{}]", "", made)
    assert plain.count("{") == plain.count("}")


def compiled(folder: Path, source: str) -> str:
    """What pdflatex says of a document; it stops at the first error."""
    path = folder / "page.tex"
    path.write_text(source, "ascii")
    done = subprocess.run(
        [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", path.name],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF-")
    return path.with_suffix(".log").read_text("utf-8", "replace")


@pytest.mark.slow
def test_latex_takes_whatever_a_run_is_called(tmp_path: Path) -> None:
    """Every sign of ASCII, every letter of Latin-1 and Latin Extended-A, alone in a row and next to others."""
    signs = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x180), *map(ord, NASTY))]
    verdict = Verdict("inconclusive", NASTY)
    rows = [measured("palr", NASTY, "adapter", [(AUC, 0.6, 0.05), (LOSS, 0.4, 0.1)])]
    rows += [Line(sign, "baseline", {"AUC": Cell(0.5)}, note=f"{sign}{sign} {sign}[{sign}*") for sign in signs[::3]]
    rows += [reported(NASTY, {"AUC": Cell(0.7)}, verdict, NASTY)]
    columns = [replace(AUC, name="AUC"), replace(LOSS, name=NASTY)]
    sheet = replace(small(*rows, title=NASTY, notes=["".join(signs)]), columns=columns, badges=[NASTY])
    log = compiled(tmp_path, document([sheet]))
    assert "Undefined control sequence" not in log
    assert "Missing character" not in log


@pytest.mark.slow
def test_tables_are_put_into_a_document_that_has_the_packages(tmp_path: Path) -> None:
    fragment = latex([tallrec(), sequential()])
    packages = re.findall(r"^%.*(\\usepackage\{.*\})", fragment, re.MULTILINE)
    (tmp_path / "tables.tex").write_text(fragment, "ascii")
    head = ["\\documentclass[twocolumn]{article}", *packages, "\\begin{document}"]
    log = compiled(tmp_path, "\n".join([*head, "Text.", "\\input{tables}", "\\end{document}\n"]))
    assert "Output written on page.pdf" in log
    assert "Float too large" not in log
    wide = [float(points) for points in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert max(wide, default=0) < 1


def test_a_table_that_is_too_long_for_a_page_is_made_smaller(tmp_path: Path) -> None:
    rows = [Line(f"m{n}", "baseline", {"AUC": Cell(0.5)}, note=f"note {n}, which is about {NASTY}") for n in range(120)]
    log = compiled(tmp_path, document([small(*rows)]))
    assert "Float too large" not in log
    assert "Overfull" not in log
    assert "(1 page," in log
