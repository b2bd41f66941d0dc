import type { IncomingMessage } from 'node:http';
import { notFound, notYet, sendJson, sendText } from './refusal.ts';
import type { Route, RouteContext } from './router.ts';

/** A release that has verified, as it is told to clients. */
export interface ServedRelease {
  /** Plain JSON: the signed TUF target. */
  readonly release: unknown;
  /** The ticket's exact bytes, and its signify signature, for machines that cannot read TUF. */
  readonly ticket?: { readonly text: string; readonly signature: string } | undefined;
}

/** What is known about channels. Only what has verified may be answered. */
export interface Releases {
  /** Whether this node follows `channel`, so that a release of it may come. */
  follows(channel: string): boolean;
  current(channel: string): ServedRelease | undefined;
}

const CHANNEL = /^[a-z0-9][a-z0-9._-]{0,62}$/i;

/** `/release/<channel>` (JSON), `/release/<channel>/ticket` and `/release/<channel>/ticket.sig` (text). */
export function releaseRoutes({ releases }: { readonly releases: Releases }): readonly Route[] {
  const current = ({ params }: RouteContext): ServedRelease => {
    const channel = params['channel'] ?? '';
    const known = CHANNEL.test(channel) && releases.follows(channel);
    const release = known ? releases.current(channel) : undefined;
    if (release !== undefined) return release;
    if (known) throw notYet(`no release of channel ${channel} has reached this node and verified`);
    throw notFound(`channel ${channel} is not followed by this node`);
  };
  const text = (part: 'text' | 'signature'): Route['handle'] => {
    return async (_request: IncomingMessage, response, context) => {
      const { ticket } = current(context);
      if (ticket === undefined) throw notFound(`the release of channel ${context.params['channel']} has no ticket`);
      sendText(response, 200, 'text/plain; charset=utf-8', ticket[part]);
    };
  };
  return [
    {
      path: '/release/:channel',
      handle: async (_request, response, context) => sendJson(response, 200, current(context).release),
    },
    { path: '/release/:channel/ticket', handle: text('text') },
    { path: '/release/:channel/ticket.sig', handle: text('signature') },
  ];
}
