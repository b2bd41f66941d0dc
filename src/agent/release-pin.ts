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
