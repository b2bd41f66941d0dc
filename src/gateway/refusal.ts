import type { ServerResponse } from 'node:http';

/** Seconds after which a client may ask again for what is not there yet. */
export const RETRY_SECONDS = 5;

/**
 * A request that is answered with an error status, as `{"error": code, "detail": message}`. Thrown by routes before
 * they have sent anything.
 */
export class Refusal extends Error {
  readonly code: string;
  /** HTTP status, 400 to 599. */
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, detail: string, headers: Readonly<Record<string, string>> = {}) {
    super(detail);
    this.name = 'Refusal';
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/** 404: `detail` names what is not published here. */
export function notFound(detail: string): Refusal {
  return new Refusal(404, 'not_found', detail);
}

/** 503 with Retry-After (RFC 9110 10.2.3): it will be here, and is not yet. */
export function notYet(detail: string): Refusal {
  return new Refusal(503, 'not_yet', detail, { 'Retry-After': String(RETRY_SECONDS) });
}

/** Sends `value` as JSON with a length; nothing must have been sent yet. */
export function sendJson(
  response: ServerResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendText(response, status, 'application/json', `${JSON.stringify(value)}\n`, headers);
}

/** Sends `text` with a length; nothing must have been sent yet. Node leaves the body out of an answer to HEAD. */
export function sendText(
  response: ServerResponse,
  status: number,
  type: string,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const body = Buffer.from(text);
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': String(body.length),
    'Cache-Control': 'no-store',
    ...headers,
  });
  response.end(body);
}

export function sendRefusal(response: ServerResponse, refusal: Refusal): void {
  sendJson(response, refusal.status, { error: refusal.code, detail: refusal.message }, refusal.headers);
}
