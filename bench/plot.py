"""Plots as SVG, written by hand: bars side by side, and curves over a logarithmic axis. Each lands beside the JSON."""
import html
import math

from lab import OUT, ROOT

COLOURS = ("#2b6cb0", "#c05621", "#2f855a", "#6b46c1", "#718096")
WIDTH, LABELS, ROW, LINE = 860, 250, 16, 'font-family="sans-serif" font-size="12"'


def text(x, y, words, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {LINE} {extra}>{html.escape(str(words))}</text>'


def legend(names, y):
    parts, x = [], LABELS
    for i, name in enumerate(names):
        parts += [f'<rect x="{x}" y="{y - 10}" width="11" height="11" fill="{COLOURS[i % len(COLOURS)]}"/>',
                  text(x + 15, y, name)]
        x += 30 + 7 * len(name)
    return parts


def write(name, height, title, parts):
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.svg"
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
                    f'viewBox="0 0 {WIDTH} {height}">\n<rect width="100%" height="100%" fill="white"/>\n' +
                    "\n".join([text(10, 20, title, extra='font-weight="bold"')] + parts) + "\n</svg>\n")
    print(f"plot: {path.relative_to(ROOT)}")


def short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def bars(name, title, groups, log=False):
    """`groups`: (label, {series: value}) each. `log`: where the values are far apart."""
    series = list(dict.fromkeys(key for _, values in groups for key in values))
    values = [value for _, of in groups for value in of.values() if value > 0]
    low, high = (min(values) / 2, max(values)) if log else (0, max(values))
    room, y, parts = WIDTH - LABELS - 70, 62, legend(series, 42)
    for label, of in groups:
        parts.append(text(LABELS - 8, y + ROW * len(of) / 2 + 4, label, "end"))
        for key, value in of.items():
            part = math.log(value / low) / math.log(high / low) if log else value / high
            colour = COLOURS[series.index(key) % len(COLOURS)]
            parts += [f'<rect x="{LABELS}" y="{y}" width="{max(1, part * room):.1f}" height="{ROW - 3}" fill="{colour}"/>',
                      text(LABELS + part * room + 5, y + ROW - 5, short(value))]
            y += ROW
        y += 10
    write(name, y + 10, title + (" (logarithmic)" if log else ""), parts)


def curves(name, title, x_name, y_name, series):
    """`series`: {name: [(x, y)]}; x logarithmic, y from nought."""
    xs = [x for points in series.values() for x, _ in points]
    top = max(y for points in series.values() for _, y in points) * 1.1
    left, right, upper, lower = 70, WIDTH - 30, 60, 340
    span = math.log(max(xs) / min(xs)) or 1

    def at(x, y):
        return left + math.log(x / min(xs)) / span * (right - left), lower - y / top * (lower - upper)

    parts = legend(list(series), 42)
    for x in sorted(set(xs)):
        parts.append(text(at(x, 0)[0], lower + 18, f"{x:,}", "middle"))
    for i in range(5):
        y = at(min(xs), top * i / 4)[1]
        parts += [f'<line x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>',
                  text(left - 6, y + 4, short(top * i / 4), "end")]
    for i, points in enumerate(series.values()):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{at(*point)[0]:.1f}" cy="{at(*point)[1]:.1f}" r="3" fill="{colour}"/>'
                  for point in points]
    parts += [text((left + right) / 2, lower + 38, x_name, "middle"), text(left, upper - 4, y_name)]
    write(name, lower + 50, title, parts)
