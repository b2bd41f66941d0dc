import type { IncomingMessage, ServerResponse } from 'node:http';
import { notFound, Refusal } from './refusal.ts';

export interface RouteContext {
  /** What the placeholders of the path matched: decoded, never empty, without control characters or slashes. */
  readonly params: Readonly<Record<string, string>>;
  /** Aborted when this client has gone, or the gateway closes. */
  readonly signal: AbortSignal;
  /** The client's address, without port; `local` on a unix socket. */
  readonly client: string;
}

/** One kind of request and its answer. Rooms that may not import the gateway satisfy it structurally. */
export interface Route {
  /** @default GET, and with it HEAD */
  readonly method?: 'GET' | 'POST';
  /**
   * Segments that are literal, `:name` for any one segment, or a last `*` for one or more (`params['*']`, joined by
   * slashes): `/artifact/:cid`, `/boot/*`. The first route that fits is taken.
   */
  readonly path: string;
  /** Answers. Rejecting with a `Refusal` before anything is sent gives that status, with anything else 500. */
  handle(request: IncomingMessage, response: ServerResponse, context: RouteContext): Promise<void>;
}

export interface RouteMatch {
  readonly route: Route;
  readonly params: Readonly<Record<string, string>>;
}

/** Characters of a request target; a CID is 59, a channel at most 63. */
const MAX_TARGET = 2048;

/**
 * Finds the route of a request. A target is taken apart literally: nothing is normalised, so `..` is never a step up,
 * and a segment that could be one in a file name is refused.
 */
export class Router {
  readonly #routes: readonly { readonly route: Route; readonly pattern: readonly string[] }[];

  constructor(routes: readonly Route[]) {
    this.#routes = routes.map((route) => ({ route, pattern: checkedPattern(route.path) }));
  }

  /** @throws {Refusal} 400, 404, 405 or 414 */
  match(method: string, target: string): RouteMatch {
    const segments = targetSegments(target);
    const fitting = this.#routes.flatMap(({ route, pattern }) => {
      const params = fit(pattern, segments);
      return params === undefined ? [] : [{ route, params }];
    });
    if (fitting.length === 0) throw notFound(`nothing is served at /${segments.join('/')}`);
    const match = fitting.find(({ route }) => methodsOf(route).includes(method));
    if (match !== undefined) return match;
    const allowed = [...new Set(fitting.flatMap(({ route }) => methodsOf(route)))].join(', ');
    throw new Refusal(405, 'method_not_allowed', `this path answers ${allowed}`, { Allow: allowed });
  }
}

function methodsOf(route: Route): readonly string[] {
  return route.method === 'POST' ? ['POST'] : ['GET', 'HEAD'];
}

function checkedPattern(path: string): readonly string[] {
  const pattern = path.split('/').slice(1);
  const wild = pattern.indexOf('*');
  if (!path.startsWith('/') || pattern.includes('') || (wild >= 0 && wild < pattern.length - 1)) {
    throw new RangeError(`'${path}' is no path of a route: write /literal/:name or /literal/*`);
  }
  return pattern;
}

/** Segments of an origin-form or absolute-form target (RFC 9112 3.2), percent-decoded once. */
function targetSegments(target: string): readonly string[] {
  if (target.length > MAX_TARGET) throw new Refusal(414, 'too_long', `a target has at most ${MAX_TARGET} characters`);
  const path = target.replace(/^http:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '');
  if (!path.startsWith('/')) throw new Refusal(400, 'bad_target', 'the request target is no path');
  return path.slice(1).split('/').map(decodeSegment);
}

function decodeSegment(raw: string): string {
  let segment = '';
  try {
    segment = decodeURIComponent(raw);
  } catch {
    throw new Refusal(400, 'bad_target', 'the request target has a wrong percent-encoding');
  }
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not get through
  if (/[\u0000-\u001f\u007f/\\]/.test(segment) || segment === '.' || segment === '..') {
    throw new Refusal(400, 'bad_target', 'the request target is no plain path');
  }
  return segment;
}

function fit(pattern: readonly string[], segments: readonly string[]): Record<string, string> | undefined {
  const params: Record<string, string> = {};
  for (const [index, part] of pattern.entries()) {
    const segment = segments[index];
    if (segment === undefined || segment === '') return undefined;
    if (part === '*') {
      params['*'] = segments.slice(index).join('/');
      return params;
    }
    if (part.startsWith(':')) params[part.slice(1)] = segment;
    else if (part !== segment) return undefined;
  }
  return pattern.length === segments.length ? params : undefined;
}
