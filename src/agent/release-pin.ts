import type { CID } from 'multiformats/cid';
import type { Pins } from '../store/pins.ts';

/** The pin that keeps one artifact of a release; people's own pins cannot have such a name. */
export interface ReleasePin {
  readonly channel: string;
  readonly version: number;
  readonly role: string;
}

/** `release/<channel>/<version>/<role>`. */
export function releasePin({ channel, version, role }: ReleasePin): string {
  return `release/${channel}/${version}/${role}`;
}

/** Every such pin of the store. */
export function releasePins(pins: Pins): readonly (ReleasePin & { readonly name: string; readonly cid: CID })[] {
  return pins.list().flatMap(({ name, cid }) => {
    const [prefix, channel, version, role, rest] = name.split('/');
    if (prefix !== 'release' || channel === undefined || role === undefined || rest !== undefined) return [];
    return [{ name, cid, channel, version: Number(version), role }];
  });
}

/**
 * The artifacts that are pinned, the ones most probably like `wanted` first: where a release pins it, those that other
 * versions of the channel have in the same role, newest first.
 */
export function likelyAlike(pins: Pins, wanted: CID): readonly CID[] {
  const releases = releasePins(pins).toSorted((a, b) => b.version - a.version);
  const of = releases.find(({ cid }) => cid.equals(wanted));
  const siblings = releases.filter(({ channel, role }) => channel === of?.channel && role === of?.role);
  const all = [...siblings, ...releases, ...pins.list()].map(({ cid }) => [cid.toString(), cid] as const);
  return [...new Map(all).values()];
}

/**
 * The pins of a channel's releases that nobody needs any more. What stays: `newest`, which may still be arriving; `held`,
 * the newest that is complete, from which machines boot; and the one that was complete before it, to go back to. All
 * stay while it is not known what is complete.
 */
export function outdatedPins<P extends ReleasePin>(
  pins: readonly P[],
  { channel, newest, held }: { readonly channel: string; readonly newest: number; readonly held: number | undefined },
): readonly P[] {
  if (held === undefined) return [];
  const older = pins.filter((pin) => pin.channel === channel && pin.version < newest);
  // Those that were overtaken while they arrived were unpinned then, so the next lower one was complete.
  const previous = Math.max(...older.map(({ version }) => version).filter((version) => version < held));
  return older.filter(({ version }) => version !== held && version !== previous);
}
