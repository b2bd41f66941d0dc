import type { IncomingHttpHeaders } from 'node:http';

/** A list of entity tags, `"…"` or `W/"…"` (RFC 9110 8.8.3). */
const TAG = /(?:W\/)?"[\u0021\u0023-\u007e\u0080-\u00ff]*"/g;

/**
 * What If-Match and If-None-Match say about a representation whose strong tag is `etag` (RFC 9110 13.2.2, for GET and
 * HEAD). Dates are not looked at: a CID never changes, and no Last-Modified is sent.
 */
export function checkPreconditions(headers: IncomingHttpHeaders, etag: string): 'go' | 'not-modified' | 'failed' {
  const must = headers['if-match'];
  if (must !== undefined && must.trim() !== '*' && !tags(must).includes(etag)) return 'failed';
  const not = headers['if-none-match'];
  if (not === undefined) return 'go';
  const found = not.trim() === '*' || tags(not).some((tag) => tag.replace(/^W\//, '') === etag);
  return found ? 'not-modified' : 'go';
}

/** Whether a Range may be honoured: there is no If-Range, or it is this very tag, strongly (RFC 9110 13.1.5). */
export function rangeAllowed(headers: IncomingHttpHeaders, etag: string): boolean {
  const condition = headers['if-range'];
  return condition === undefined || condition === etag;
}

function tags(list: string): readonly string[] {
  return list.match(TAG) ?? [];
}
