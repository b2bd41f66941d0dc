import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { InviteResult, MemberLine, PingLine } from '../../src/admin/results.ts';
import { Namespace } from '../../src/lab/namespace.ts';
import { parseDump } from '../../src/overlay/dump.ts';
import { DISKLESS, HOLDER, ISSUER, NEWCOMER, type OverlayFleet, SITES, until } from './fleet.ts';

/** What was done at a site that nobody reaches, and how long it took. */
export interface Step {
  readonly step: string;
  readonly ms: number;
}

interface Options {
  readonly signal: AbortSignal;
  readonly say: (line: string) => void;
}

/** Whoever is revoked has lost swarm and overlay within this time, milliseconds. */
const REVOKED_MS = 5_000;
/** For commands that wait for others, on a machine with more agents than cores, milliseconds. */
const SLOW_MS = 120_000;
/** Certificates are dated in whole seconds. */
const SECOND_MS = 1_100;

/** The fleet's list lets the machine in that has no disk; its site's issuer does it. */
export async function enrolDiskless(fleet: OverlayFleet, { signal }: Pick<Options, 'signal'>): Promise<void> {
  const { lab } = fleet;
  const { stdout } = await lab.exec(DISKLESS, ['cat', '/sys/class/net/eth0/address']);
  const place = ['--site', SITES.edge, '--name', DISKLESS, '--keys', keysOf(fleet)];
  await lab.bootmesh(HOLDER, ['fleet', 'allow', `mac:${stdout.trim()}`, ...place], { signal });
  await joinByList(fleet, { signal });
}

/** Everything that a site must be able to do alone. Rejects at the first step that does not hold. */
export async function liveAtTheEdge(fleet: OverlayFleet, { signal, say }: Options): Promise<Step[]> {
  const { lab } = fleet;
  const steps: Step[] = [];
  const step = async (what: string, act: () => Promise<unknown>) => {
    const from = performance.now();
    await act();
    const ms = Math.round(performance.now() - from);
    steps.push({ step: what, ms });
    say(`edge: ${what}: ${(ms / 1000).toFixed(1)} s`);
  };
  const edge = () => fleet.at(SITES.edge);
  const revoked = `${SITES.edge}-2`;
  const renewed = `${SITES.edge}-3`;

  await step('the site is cut off from the gateway, the other site and the holder of the keys', async () => {
    await lab.partition(SITES.edge);
    await until(async () => await outsiders(fleet, edge(), signal), { signal });
  });
  await step(
    `all ${edge().length} agents are killed at once, start again and have met; ${DISKLESS} with new keys`,
    async () => {
      const before = await idOf(fleet, DISKLESS, signal);
      await lab.stopNode(DISKLESS, { signal: 'SIGKILL' });
      await rm(lab.node(DISKLESS).data, { recursive: true });
      await Promise.all([lab.powerCycle(SITES.edge, { signal }), joinByList(fleet, { signal })]);
      await until(async () => await unmet(fleet, edge(), signal), { signal });
      if ((await idOf(fleet, DISKLESS, signal)) === before) throw new Error(`${DISKLESS} has the keys of before`);
    },
  );
  await step('every pair of the site exchanges a chunk', () => exchange(fleet, edge(), signal));
  await step('a machine joins by the site’s issuer, and gets a chunk of everybody', async () => {
    const { token } = await lab.bootmesh<InviteResult>(ISSUER, ['fleet', 'invite', '--name', NEWCOMER], { signal });
    await lab.bootmesh(NEWCOMER, ['join', token, '--name', NEWCOMER], { signal, timeoutMs: SLOW_MS });
    await lab.startNode(NEWCOMER, { signal });
    fleet.running.add(NEWCOMER);
    await until(async () => await unmet(fleet, edge(), signal), { signal });
    await exchange(fleet, [NEWCOMER], signal);
  });
  await step(`${revoked} is revoked: no connection and no WireGuard peer is left anywhere`, async () => {
    const key = await wireguardKeyOf(fleet, revoked);
    await lab.bootmesh(ISSUER, ['fleet', 'revoke', revoked, '--why', 'bench'], { signal });
    const others = edge().filter((name) => name !== revoked);
    const look = async () => await tracesOf(fleet, { others, revoked, key, signal });
    await until(look, { signal, ms: REVOKED_MS });
    fleet.running.delete(revoked);
    await lab.stopNode(revoked);
  });
  await step(`the certificate of ${renewed} is renewed, and it has the new one`, async () => {
    await delay(SECOND_MS, undefined, { signal });
    const before = await memberAt(fleet, renewed, renewed, signal);
    await lab.bootmesh(ISSUER, ['fleet', 'renew', renewed], { signal });
    const look = async () => {
      const after = await memberAt(fleet, renewed, renewed, signal);
      return (after?.notAfter ?? '') > (before?.notAfter ?? '') ? undefined : 'its certificate is the one of before';
    };
    await until(look, { signal });
  });
  await step(
    'the WAN is back: the other site knows who came and who went, and exchanges with the newcomer',
    async () => {
      await lab.heal();
      const other = `${SITES.far}-2`;
      const look = async () => {
        const came = await memberAt(fleet, other, NEWCOMER, signal);
        const went = await memberAt(fleet, other, revoked, signal);
        if (came?.state !== 'member' || !came.connected) return `${other} is not connected to ${NEWCOMER}`;
        return went?.state === 'revoked' ? undefined : `${other} has not heard that ${revoked} is revoked`;
      };
      await until(look, { signal });
      await exchange(fleet, [other], signal, [NEWCOMER]);
    },
  );
  return steps;
}

async function joinByList(fleet: OverlayFleet, { signal }: Pick<Options, 'signal'>): Promise<void> {
  const root = join(keysOf(fleet), 'root.json');
  await fleet.lab.bootmesh(DISKLESS, ['join', '--root', root, '--wait', '60s'], { signal, timeoutMs: SLOW_MS });
  await fleet.lab.startNode(DISKLESS, { signal });
  fleet.running.add(DISKLESS);
}

function keysOf({ lab }: OverlayFleet): string {
  const { keys } = lab.node(HOLDER);
  if (keys === undefined) throw new Error(`${HOLDER} holds no keys`);
  return keys;
}

async function connectedTo(fleet: OverlayFleet, name: string, signal: AbortSignal): Promise<string[]> {
  const { peers } = await (await fleet.admin(name)).peers({}, { signal });
  return peers.flatMap((peer) => (peer.connected ? [peer.name ?? peer.peerId] : []));
}

/** Somebody is still connected to somebody outside. */
async function outsiders(fleet: OverlayFleet, names: readonly string[], signal: AbortSignal) {
  for (const name of names) {
    const outside = (await connectedTo(fleet, name, signal)).filter((other) => !names.includes(other));
    if (outside.length > 0) return `${name} is connected to ${outside}`;
  }
  return undefined;
}

/** Somebody is not connected yet to all others of these, or has not all of the release. */
async function unmet(fleet: OverlayFleet, names: readonly string[], signal: AbortSignal) {
  for (const name of names) {
    const connected = await connectedTo(fleet, name, signal);
    const missing = names.filter((other) => other !== name && !connected.includes(other));
    if (missing.length > 0) return `${name} is not connected to ${missing}`;
    const { channels } = await (await fleet.admin(name)).status({}, { signal });
    if (channels.some(({ held = 0 }) => held < 1)) return `${name} does not have the release`;
  }
  return undefined;
}

/** All of `names` get a chunk of each of `others`; of each other when those are not named. */
async function exchange(
  { lab }: OverlayFleet,
  names: readonly string[],
  signal: AbortSignal,
  others: readonly string[] = [],
): Promise<void> {
  for (const name of names) {
    const { pings } = await lab.bootmesh<{ pings: PingLine[] }>(name, ['ping', ...others], {
      signal,
      timeoutMs: SLOW_MS,
    });
    const missed = pings.filter(({ outcome }) => outcome !== 'chunk');
    const [first] = missed;
    if (first) throw new Error(`${name} got no chunk of ${first.name}: ${first.why ?? first.outcome}`);
    if (pings.length === 0) throw new Error(`${name} is connected to nobody`);
  }
}

async function tracesOf(
  fleet: OverlayFleet,
  facts: {
    readonly others: readonly string[];
    readonly revoked: string;
    readonly key: string;
    readonly signal: AbortSignal;
  },
): Promise<string | undefined> {
  for (const name of facts.others) {
    if ((await connectedTo(fleet, name, facts.signal)).includes(facts.revoked)) return `${name} is connected to it`;
    const { namespace, overlay } = fleet.lab.node(name);
    const { stdout } = await new Namespace(namespace).run(['wg', 'show', overlay?.interface ?? '', 'dump']);
    if (parseDump(stdout).peers.some(({ publicKey }) => publicKey === facts.key)) return `${name} has its tunnel`;
  }
  const left = await connectedTo(fleet, facts.revoked, facts.signal);
  return left.length === 0 ? undefined : `it is connected to ${left}`;
}

async function wireguardKeyOf({ lab }: OverlayFleet, name: string): Promise<string> {
  const { namespace, overlay } = lab.node(name);
  const { stdout } = await new Namespace(namespace).run(['wg', 'show', overlay?.interface ?? '', 'public-key']);
  return stdout.trim();
}

async function memberAt(
  fleet: OverlayFleet,
  at: string,
  name: string,
  signal: AbortSignal,
): Promise<MemberLine | undefined> {
  const { members } = await (await fleet.admin(at)).members({}, { signal });
  return members.find((member) => member.name === name);
}

async function idOf(fleet: OverlayFleet, name: string, signal: AbortSignal): Promise<string> {
  return (await (await fleet.admin(name)).status({}, { signal })).peerId;
}
