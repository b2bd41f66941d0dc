import type { IncomingMessage, ServerResponse } from 'node:http';
import { CID } from 'multiformats/cid';
import type { Log } from '../observe/log.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { Artifact, Artifacts } from './artifacts.ts';
import { sendBody } from './body-stream.ts';
import { type ByteRange, parseRange } from './byte-range.ts';
import { ClientBytes } from './client-bytes.ts';
import { PieceLists } from './piece-list.ts';
import { checkPreconditions, rangeAllowed } from './precondition.ts';
import { notFound, notYet, Refusal, sendText } from './refusal.ts';
import type { Route, RouteContext } from './router.ts';

export interface ArtifactRouteOptions {
  /** Milliseconds that a client waits for an artifact's manifest before it is told to come back. @default 30000 */
  readonly openMs?: number;
  /** Milliseconds without progress, by the source or the reader, after which a transfer is cut. @default 60000 */
  readonly stallMs?: number;
}

interface Deps {
  readonly artifacts: Artifacts;
  readonly log: Log;
  readonly metrics: Metrics;
}

const DEFAULTS = { openMs: 30_000, stallMs: 60_000 } as const;

/** `/artifact/<cid>` with ranges, conditions and the CID as its ETag; `/artifact/<cid>/pieces`. */
export function artifactRoutes(deps: Deps, options: ArtifactRouteOptions = {}): readonly Route[] {
  const settings = { ...DEFAULTS, ...options };
  const log = deps.log.with({ room: 'gateway' });
  const served = new ClientBytes(deps.metrics);
  const lists = new PieceLists();

  const open = async (text: string, { signal }: RouteContext): Promise<{ cid: CID; artifact: Artifact }> => {
    const cid = parseCid(text);
    const patience = AbortSignal.timeout(settings.openMs);
    try {
      const artifact = await deps.artifacts.open(cid, { signal: AbortSignal.any([signal, patience]) });
      if (artifact !== undefined) return { cid, artifact };
    } catch (error) {
      if (signal.aborted) throw error;
      log.warn('artifact cannot be opened', { cid: text, error });
      throw notYet(`artifact ${text} is published, and its manifest cannot be had at the moment`);
    }
    throw notFound(`artifact ${text} is not published here`);
  };

  const artifact: Route = {
    path: '/artifact/:cid',
    handle: async (request, response, context) => {
      const { cid, artifact } = await open(context.params['cid'] ?? '', context);
      const range = answerHead(request, response, `"${cid}"`, artifact.size);
      if (range === undefined) return;
      const transfer = { log, served, stallMs: settings.stallMs };
      await serve(request, response, context, artifact, { ...transfer, cid: cid.toString(), range });
    },
  };

  const pieces: Route = {
    path: '/artifact/:cid/pieces',
    handle: async (_request, response, context) => {
      const { cid, artifact } = await open(context.params['cid'] ?? '', context);
      const text = await lists.of(cid.toString(), artifact, context).catch((error: unknown) => {
        if (context.signal.aborted) throw error;
        log.warn('pieces cannot be read', { cid: cid.toString(), error });
        throw notYet(`artifact ${cid} is not complete here`);
      });
      sendText(response, 200, 'text/plain; charset=us-ascii', text, { ETag: `"${cid}.pieces"` });
    },
  };
  return [artifact, pieces];
}

function parseCid(text: string): CID {
  try {
    // Only the canonical spelling is a name: base32, version 1.
    if (/^b[a-z2-7]{20,120}$/.test(text) && CID.parse(text).toString() === text) return CID.parse(text);
  } catch {}
  throw new Refusal(400, 'bad_cid', 'an artifact is named by a version 1 CID in base32, such as bafybei…');
}

/** Writes the head of the answer; the range whose bytes must follow, or undefined when the answer is complete. */
function answerHead(
  request: IncomingMessage,
  response: ServerResponse,
  etag: string,
  size: number,
): ByteRange | undefined {
  const caching = { ETag: etag, 'Accept-Ranges': 'bytes', 'Cache-Control': 'public, max-age=31536000, immutable' };
  const condition = checkPreconditions(request.headers, etag);
  if (condition === 'failed') throw new Refusal(412, 'precondition_failed', `this is ${etag}`, { ETag: etag });
  if (condition === 'not-modified') {
    response.writeHead(304, caching).end();
    return undefined;
  }
  // Range is defined for GET alone (RFC 9110 14.2).
  const ranged = request.method === 'GET' && rangeAllowed(request.headers, etag);
  const range = parseRange(ranged ? request.headers.range : undefined, size);
  if (range === 'unsatisfiable') {
    throw new Refusal(416, 'range_not_satisfiable', `the artifact has ${size} bytes`, {
      'Content-Range': `bytes */${size}`,
    });
  }
  const { start, end } = range === 'whole' ? { start: 0, end: size } : range;
  response.writeHead(range === 'whole' ? 200 : 206, {
    'Content-Type': 'application/octet-stream',
    'Content-Length': String(end - start),
    ...(range === 'whole' ? {} : { 'Content-Range': `bytes ${start}-${end - 1}/${size}` }),
    ...caching,
  });
  if (request.method === 'GET') {
    // Node keeps the head back for the first bytes, and a firmware that hears nothing gives up.
    response.flushHeaders();
    return { start, end };
  }
  response.end();
  return undefined;
}

interface Transfer {
  readonly log: Log;
  readonly served: ClientBytes;
  readonly stallMs: number;
  readonly cid: string;
  readonly range: ByteRange;
}

/** Streams the range, and leaves one log line: by these a machine's boot is traced to the neighbours that served it. */
async function serve(
  request: IncomingMessage,
  response: ServerResponse,
  { client, signal }: RouteContext,
  artifact: Artifact,
  { log, served, stallMs, cid, range }: Transfer,
): Promise<void> {
  const started = performance.now();
  let bytes = 0;
  const facts = () => ({
    client,
    cid,
    range: `${range.start}-${range.end}`,
    size: artifact.size,
    bytes,
    ms: Math.round(performance.now() - started),
    agent: request.headers['user-agent']?.slice(0, 64),
  });
  const onBytes = (count: number) => {
    bytes += count;
    served.add(client, count);
  };
  try {
    const read = (stop: AbortSignal) => artifact.read({ ...range, signal: stop });
    await sendBody(response, read, { length: range.end - range.start, signal, stallMs, onBytes });
    log.info('artifact served', facts());
  } catch (error) {
    if (signal.aborted) log.info('artifact reader has gone', facts());
    else log.warn('artifact transfer failed', { ...facts(), error });
    response.destroy();
  }
}
