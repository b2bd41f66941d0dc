/** Bars with their figures, in one or more panels beside each other, as an SVG that reads on light and dark pages. */
export interface BarChart {
  readonly title: string;
  readonly panels: readonly Panel[];
  readonly groups: readonly Group[];
}

/** One figure of every bar. */
interface Panel {
  readonly title: string;
  /** A dashed line across all bars, e.g. what cannot be beaten. */
  readonly line?: number;
  /** Longer bars are cut off, open at the end. @default as long as the longest */
  readonly most?: number;
  /** Decimals of the figures. @default 2 */
  readonly digits?: number;
}

interface Group {
  readonly title: string;
  readonly bars: readonly Bar[];
}

interface Bar {
  readonly label: string;
  /** Set off from the rest. */
  readonly ours: boolean;
  /** One for each panel; null: it has none, and says so in words. */
  readonly values: readonly (number | null | undefined)[];
}

const LABELS = 128;
const PANEL = 300;
const FIGURE = 52;
const GAP = 24;
const ROW = 20;
const BAR = 13;
const HEAD = 62;
const GROUP_HEAD = 26;
const MARGIN = 16;

const STYLE = `
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 15px; font-weight: 600 }
.group { font-weight: 600 }
.panel, .none { fill: #59636e }
.page { fill: #ffffff }
.ours { fill: #0969da }
.peer { fill: #afb8c1 }
.line { stroke: #cf222e; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.panel, .none { fill: #9198a1 }
.page { fill: #0d1117 }
.ours { fill: #4493f8 }
.peer { fill: #656c76 }
.line { stroke: #f85149 }
}`;

/** Each group's bars by their first figure, the smallest first; those without one last. */
export function barChart({ title, panels, groups }: BarChart): string {
  const width = MARGIN * 2 + LABELS + panels.length * PANEL + (panels.length - 1) * GAP;
  const scales = panels.map((panel, at) => {
    const values = groups.flatMap(({ bars }) => bars.map(({ values }) => values[at] ?? 0));
    const longest = Math.min(panel.most ?? Number.POSITIVE_INFINITY, Math.max(panel.line ?? 0, ...values)) || 1;
    return { ...panel, left: MARGIN + LABELS + at * (PANEL + GAP), longest };
  });
  const parts: string[] = [`<text class="title" x="${MARGIN}" y="26">${escaped(title)}</text>`];
  for (const { left, title: name } of scales) {
    parts.push(`<text class="panel" x="${left}" y="50">${escaped(name)}</text>`);
  }
  let y = HEAD;
  for (const group of groups) {
    parts.push(`<text class="group" x="${MARGIN}" y="${y + 16}">${escaped(group.title)}</text>`);
    y += GROUP_HEAD;
    const top = y;
    for (const bar of sorted(group.bars)) {
      parts.push(`<text x="${MARGIN}" y="${y + 14}">${escaped(bar.label)}</text>`);
      for (const [at, scale] of scales.entries()) parts.push(drawBar(bar, bar.values[at], scale, y));
      y += ROW;
    }
    for (const { line, left, longest } of scales) {
      if (line === undefined) continue;
      const x = left + lengthOf(line, longest);
      parts.push(`<line class="line" x1="${x}" x2="${x}" y1="${top - 3}" y2="${y}"/>`);
    }
    y += 8;
  }
  const height = y + MARGIN - 8;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escaped(title)}</title>`,
    `<style>${STYLE}\n</style>`,
    `<rect class="page" width="${width}" height="${height}" rx="6"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

interface Scale extends Panel {
  readonly left: number;
  /** The value whose bar fills the panel. */
  readonly longest: number;
}

function drawBar({ ours }: Bar, value: number | null | undefined, { left, longest, digits = 2 }: Scale, y: number) {
  if (value === undefined) return '';
  if (value === null) return `<text class="none" x="${left}" y="${y + 14}">not all finished</text>`;
  const length = lengthOf(Math.min(value, longest), longest);
  const [top, bottom, right] = [y + 3, y + 3 + BAR, left + length];
  // A bar that is cut off ends in a tooth.
  const end = value > longest ? `L${right - 6} ${top}L${right} ${(top + bottom) / 2}L${right - 6} ${bottom}` : '';
  const body = end || `L${right} ${top}L${right} ${bottom}`;
  return [
    `<path class="${ours ? 'ours' : 'peer'}" d="M${left} ${top}${body}L${left} ${bottom}Z"/>`,
    `<text x="${right + 5}" y="${y + 14}">${value.toFixed(digits)}</text>`,
  ].join('');
}

function lengthOf(value: number, longest: number): number {
  return Math.round((value / longest) * (PANEL - FIGURE) * 10) / 10;
}

function sorted(bars: readonly Bar[]): Bar[] {
  const first = ({ values }: Bar) => values[0] ?? Number.POSITIVE_INFINITY;
  return [...bars].sort((a, b) => first(a) - first(b));
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
