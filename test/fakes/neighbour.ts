/**
 * A neighbour as a booting machine sees it, as a program, so that it can live in a network namespace and be killed.
 * Its one argument is a NeighbourPlan as JSON; on standard output it says what happens, one NeighbourEvent per line.
 */
import { readFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { join } from 'node:path';

export interface NeighbourPlan {
  readonly port: number;
  /** Holds `ticket`, `ticket.sig`, `pieces` and `rootfs`. */
  readonly directory: string;
  readonly channel: string;
  readonly cid: string;
  /** Offsets in the rootfs that it serves wrong. */
  readonly flips?: readonly number[];
  /** After so many bytes of the rootfs it sends nothing more, on any connection, without closing one. */
  readonly pauseAfter?: number;
  /** Answers every request with bytes that never end. */
  readonly flood?: boolean;
}

export type NeighbourEvent =
  | { readonly event: 'listening' | 'paused' }
  | { readonly event: 'request'; readonly path: string; readonly range?: string };

const PIECE = 64 * 1024;

if (import.meta.main) serve(JSON.parse(process.argv[2] ?? '{}') as NeighbourPlan);

function serve(plan: NeighbourPlan): void {
  const rootfs = readFileSync(join(plan.directory, 'rootfs'));
  for (const offset of plan.flips ?? []) rootfs[offset] = (rootfs[offset] ?? 0) ^ 1;
  const texts = new Map(
    [
      [`/release/${plan.channel}/ticket`, 'ticket'],
      [`/release/${plan.channel}/ticket.sig`, 'ticket.sig'],
      [`/artifact/${plan.cid}/pieces`, 'pieces'],
    ].map(([path = '', name = '']) => [path, readFileSync(join(plan.directory, name))]),
  );
  let left = plan.pauseAfter ?? Number.POSITIVE_INFINITY;
  const send = (response: ServerResponse, start: number, end: number): void => {
    if (left <= 0) return;
    const stop = Math.min(start + PIECE, start + left, end);
    left -= stop - start;
    if (stop === end) return void response.end(rootfs.subarray(start, stop));
    response.write(rootfs.subarray(start, stop), () =>
      left > 0 ? send(response, stop, end) : say({ event: 'paused' }),
    );
  };
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    const range = request.headers.range;
    say({ event: 'request', path, ...(range !== undefined && { range }) });
    if (plan.flood === true) return flood(response.writeHead(200));
    const text = texts.get(path);
    if (text !== undefined) return void response.writeHead(200, { 'content-length': text.length }).end(text);
    const asked = /^bytes=(\d+)-(\d+)$/.exec(range ?? '');
    if (path !== `/artifact/${plan.cid}` || asked === null) return void response.writeHead(404).end();
    const start = Number(asked[1]);
    const end = Math.min(Number(asked[2]) + 1, rootfs.length);
    response.writeHead(206, {
      'content-length': end - start,
      'content-range': `bytes ${start}-${end - 1}/${rootfs.length}`,
    });
    return send(response, start, end);
  });
  server.listen(plan.port, '::', () => say({ event: 'listening' }));
}

function flood(response: ServerResponse): void {
  const more = (): void => {
    while (!response.destroyed && response.write(Buffer.alloc(PIECE, 'x'))) {}
  };
  response.on('drain', more);
  more();
}

function say(event: NeighbourEvent): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}
