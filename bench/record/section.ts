import { readFile, rename, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const README = fileURLToPath(new URL('../README.md', import.meta.url));

/**
 * Puts `markdown` between `<!-- name -->` and `<!-- /name -->` in bench/README.md, in place of what is there. A bench
 * does it from the results that it has just recorded, so that text and figures never part.
 * @throws {RangeError} when the page has no such pair of markers.
 */
export async function writeSection(name: string, markdown: string): Promise<void> {
  const before = await readFile(README, 'utf8');
  const after = replaceSection(before, name, markdown);
  if (after === before) return;
  const draft = `${README}.${process.pid}`;
  await writeFile(draft, after);
  await rename(draft, README);
}

export function replaceSection(page: string, name: string, markdown: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const from = page.indexOf(open);
  const to = page.indexOf(close, from);
  if (from < 0 || to < 0) throw new RangeError(`bench/README.md has no place between ${open} and ${close}`);
  return `${page.slice(0, from + open.length)}\n\n${markdown.trim()}\n\n${page.slice(to)}`;
}
