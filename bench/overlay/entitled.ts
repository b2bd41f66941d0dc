import type { MemberLine } from '../../src/admin/results.ts';
import { parseDump } from '../../src/overlay/dump.ts';

/** Who is who in the overlay, by what the fleet's members are; not by what the agents' plan says. */
export type Person = Pick<MemberLine, 'name' | 'site' | 'roles' | 'address'>;

/**
 * What `wg show` must list at `own`, as `address → allowed IPs`: the members of its site, each with its address; of other
 * sites those with which it has a direct way, each with its address; and the one gateway there is, with its address and the
 * networks of the sites that are reached through it. The gateway itself knows everybody, since no site has one of its own.
 */
export function entitled(own: Person, people: readonly Person[], direct: ReadonlySet<string>): Map<string, string> {
  const gateway = people.find(({ roles }) => roles.includes('gateway'));
  const sites = new Map(people.map(({ site, address }) => [site, networkOf(address)]));
  const others = people.filter(({ name }) => name !== own.name);
  const known = others.filter(
    ({ name, site }) => own.name === gateway?.name || site === own.site || name === gateway?.name || direct.has(name),
  );
  return new Map(
    known.map(({ name, address }) => {
      const behind =
        name === gateway?.name ? [...sites].filter(([site]) => site !== own.site && site !== gateway.site) : [];
      // The gateway's own site too: more of it may come.
      const networks = name === gateway?.name ? [networkOf(address), ...behind.map(([, network]) => network)] : [];
      return [address, [`${address}/128`, ...networks].toSorted().join(' ')];
    }),
  );
}

/** What it lists, in the same form: each peer by its own address, which is its only single one. */
export function listed(dump: string): Map<string, string> {
  return new Map(
    parseDump(dump).peers.map(({ publicKey, allowedIps }) => {
      const [own] = allowedIps.filter((block) => block.endsWith('/128'));
      return [own?.slice(0, -4) ?? publicKey, allowedIps.toSorted().join(' ')];
    }),
  );
}

/** In words, what differs; undefined when nothing does. */
export function differenceOf(
  wanted: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, string>,
): string | undefined {
  const all = [...new Set([...wanted.keys(), ...found.keys()])];
  const wrong = all.filter((each) => wanted.get(each) !== found.get(each));
  if (wrong.length === 0) return undefined;
  return wrong.map((each) => `${each}: ${found.get(each) ?? 'missing'} for ${wanted.get(each) ?? 'nobody'}`).join('; ');
}

/** The /64 of an address, as WireGuard writes it. */
function networkOf(address: string): string {
  const [a, b, c, d] = full(address);
  return `${shortest([a ?? 0, b ?? 0, c ?? 0, d ?? 0])}/64`;
}

function full(address: string): number[] {
  const [head = '', tail] = address.split('::');
  const groups = (text: string) => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)));
  const [before, after] = [groups(head), groups(tail ?? '')];
  return [...before, ...Array.from({ length: 8 - before.length - after.length }, () => 0), ...after];
}

/** Four groups and then zeros (RFC 5952). */
function shortest(groups: readonly number[]): string {
  const used = groups.findLastIndex((group) => group !== 0) + 1;
  return `${groups
    .slice(0, used)
    .map((group) => group.toString(16))
    .join(':')}::`;
}
