import { encode } from 'uqr';

/** Modules around it that stay light (ISO/IEC 18004, 6.3.8). */
const QUIET_ZONE = 4;
const ESCAPE = '\u001b[';
/** Black and white by number, so that the terminal's own colours do not turn it inside out. */
const dark = { ink: '38;5;16', paper: '48;5;16' };
const light = { ink: '38;5;231', paper: '48;5;231' };

/** A QR code for a terminal that knows 256 colours: two rows of modules in each line, a character wide as they are. */
export function qrLines(text: string): string[] {
  const { data } = encode(text, { ecc: 'L', border: QUIET_ZONE });
  const pairs = Array.from({ length: Math.ceil(data.length / 2) }, (_, n) => [
    data[2 * n] ?? [],
    data[2 * n + 1] ?? [],
  ]);
  return pairs.map(([above = [], below = []]) => {
    const cells = above.map((upper, column) => {
      const [ink, paper] = [upper ? dark.ink : light.ink, below[column] ? dark.paper : light.paper];
      return `${ESCAPE}${ink};${paper}m▀`;
    });
    return `${cells.join('')}${ESCAPE}0m`;
  });
}
