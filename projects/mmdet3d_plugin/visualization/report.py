"""One HTML file that holds everything: tables, charts, pictures. No external resources."""

import base64
import html
import mimetypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from projects.mmdet3d_plugin.common.files import write_text

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --page: #ffffff; --card: #f6f8fa;
        --line: #d1d9e0; --accent: #0969da; --good: #1a7f37; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --faint: #9198a1; --page: #0d1117; --card: #151b23; --line: #3d444d;
          --accent: #4493f8; --good: #3fb950; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 1180px; background: var(--page); color: var(--ink);
       font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .2rem; letter-spacing: -.01em; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line); }
p { max-width: 75ch; } .lead, figcaption, .note { color: var(--faint); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; margin: 1.4rem 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.6rem; font-variant-numeric: tabular-nums; line-height: 1.25; }
.card span { color: var(--faint); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .92rem; }
th, td { padding: .42rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { color: var(--faint); font-weight: 600; white-space: normal; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 9rem; }
td.best { font-weight: 700; color: var(--good); }
table.facts td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
table.facts td:first-child { color: var(--faint); white-space: nowrap; width: 1%; min-width: 0; }
figure { margin: 1.2rem 0; } figure img { width: 100%; height: auto; border-radius: 8px; display: block; }
figcaption { font-size: .88rem; margin-top: .4rem; }
.gallery, .charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 1rem; }
.gallery figure, .charts figure { margin: 0; }
.charts figure { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: .6rem; }
svg { width: 100%; height: auto; }
@media (max-width: 600px) { body { padding: 1.5rem 1rem 3rem; }
  .charts figure { overflow-x: auto; } .charts svg { min-width: 26rem; } }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem;
      overflow-x: auto; font-size: .84rem; line-height: 1.5; }
"""


class Report:
    """Collects sections and writes them as one page that reads well in light and in dark.

    Args:
        title: heading of the page.
        lead: one or two sentences below it.

    Example:
        >>> page = Report('Run', 'What was done.')
        >>> page.heading('Result')
        >>> page.table(['model', 'NDS'], [['student', '40.0'], ['distilled', '42.0']], best={1: max})
        >>> 'class="best">42.0' in page.html()
        True
    """

    def __init__(self, title: str, lead: str = '') -> None:
        self.title = title
        self._body = [f'<h1>{html.escape(title)}</h1>', f'<p class="lead">{html.escape(lead)}</p>']

    def heading(self, text: str) -> None:
        """Start a section."""
        self._body.append(f'<h2>{html.escape(text)}</h2>')

    def paragraph(self, text: str) -> None:
        """Add plain text."""
        self._body.append(f'<p>{html.escape(text)}</p>')

    def cards(self, figures: Mapping[str, str]) -> None:
        """Add a row of large figures, label -> figure."""
        cells = (
            f'<div class="card"><b>{html.escape(figure)}</b><span>{html.escape(label)}</span></div>'
            for label, figure in figures.items()
        )
        self._body.append(f'<div class="cards">{"".join(cells)}</div>')

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        best: Mapping[int, Callable[[Sequence[float]], float]] | None = None,
    ) -> None:
        """Add a table.

        Args:
            columns: headings.
            rows: cells, already formatted.
            best: column -> ``max`` or ``min``; the cells that reach it are set off. Cells that are no numbers
                do not take part.
        """
        winners = {column: _winner(rows, column, choose) for column, choose in (best or {}).items()}
        head = ''.join(f'<th>{html.escape(column)}</th>' for column in columns)
        body = ''.join(
            '<tr>' + ''.join(_cell(cell, winners.get(i)) for i, cell in enumerate(row)) + '</tr>'
            for row in rows
        )
        self._body.append(
            f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )

    def facts(self, pairs: Mapping[str, str]) -> None:
        """Add a two-column list of names and values."""
        rows = ''.join(
            f'<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>'
            for name, value in pairs.items()
        )
        self._body.append(f'<table class="facts"><tbody>{rows}</tbody></table>')

    def commands(self, lines: Sequence[str]) -> None:
        """Add commands as they were typed."""
        self._body.append(f'<pre>{html.escape(chr(10).join(lines))}</pre>')

    def picture(self, path: Path, caption: str = '') -> None:
        """Embed an image file."""
        self._body.append(_figure(_image(path, caption), caption))

    def gallery(self, pictures: Mapping[str, Path]) -> None:
        """Embed image files side by side, to be compared: caption -> file."""
        figures = ''.join(_figure(_image(path, caption), caption) for caption, path in pictures.items())
        self._body.append(f'<div class="gallery">{figures}</div>')

    def charts(self, drawings: Mapping[str, str]) -> None:
        """Add SVG charts side by side, caption -> ``<svg>`` element."""
        figures = ''.join(_figure(svg, caption) for caption, svg in drawings.items())
        self._body.append(f'<div class="charts">{figures}</div>')

    def html(self) -> str:
        """The whole page."""
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{html.escape(self.title)}</title><style>{_STYLE}</style></head>\n<body>\n'
            + '\n'.join(self._body)
            + '\n</body></html>\n'
        )

    def write(self, path: Path) -> Path:
        """Write the page and return its path."""
        return write_text(path, self.html())


def _figure(content: str, caption: str) -> str:
    """What is shown, with its caption below."""
    return f'<figure>{content}<figcaption>{html.escape(caption)}</figcaption></figure>'


def _image(path: Path, caption: str) -> str:
    """An image file as an element that carries it."""
    kind = mimetypes.guess_type(path.name)[0] or 'image/png'
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(caption)}" src="data:{kind};base64,{data}">'


def _number(cell: str) -> float | None:
    """A cell's value, or None for text."""
    try:
        return float(cell.replace(',', ''))
    except ValueError:
        return None


def _winner(
    rows: Sequence[Sequence[str]], column: int, choose: Callable[[Sequence[float]], float]
) -> float | None:
    """Best value of a column, None when it has no numbers or all are equal."""
    numbers = [number for row in rows if (number := _number(row[column])) is not None]
    return choose(numbers) if len(set(numbers)) > 1 else None


def _cell(text: str, winner: float | None) -> str:
    """One table cell."""
    number = _number(text)
    mark = ' class="best"' if winner is not None and number == winner else ''
    return f'<td{mark}>{html.escape(text)}</td>'
