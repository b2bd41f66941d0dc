import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { type DoorFacts, knock } from '../../src/admission/knock.ts';
import { AdmissionRefused, type RefusalReason } from '../../src/admission/refusal.ts';
import { readToken } from '../../src/admission/token.ts';
import { createKeyFile } from '../../src/disk/key-file.ts';
import { FleetClock } from '../../src/enrolment/fleet-clock.ts';
import { fleetFiles, Membership } from '../../src/enrolment/membership.ts';
import { Reception } from '../../src/enrolment/reception.ts';
import { readCertificate } from '../../src/fleet/certificate.ts';
import type { Identity } from '../../src/fleet/identity.ts';
import { Roster } from '../../src/fleet/roster.ts';
import { openStatement } from '../../src/fleet/statement.ts';
import { loadWireguardKey } from '../../src/fleet/wireguard-key.ts';
import { silentLog } from '../../src/observe/log.ts';
import { IssuingFleet, identities } from '../fakes/issuing-fleet.ts';

const fleet = new IssuingFleet();
const TRUST = { format: 1, ...fleet.trust };
const ROOT = Buffer.from('a root');
const [edge, owner, one, other] = (await identities(4)) as [Identity, Identity, Identity, Identity];
const MAC = 'mac:52:54:00:12:34:56';

async function scene(t: TestContext) {
  const folder = await mkdtemp(join(tmpdir(), 'bm-reception-'));
  const stack = new AsyncDisposableStack();
  t.after(() => stack.disposeAsync());
  stack.defer(() => rm(folder, { recursive: true, force: true }));

  /** A node that admits with this issuer's key, on its own data; `shows` is what its machine's clock does. */
  const host = async (identity: Identity, issuerName: string, shows: () => number = Date.now) => {
    const data = join(folder, identity.peerId);
    const files = fleetFiles(data);
    await mkdir(dirname(files.issuer), { recursive: true });
    await createKeyFile(files.issuer, fleet.key(issuerName));
    const clock = await FleetClock.open(files.clock, { log: silentLog, system: shows });
    const facts = { data, identity, roster: new Roster({ nodes: {} }), keys: undefined, trust: TRUST };
    const membership = await Membership.open({ ...facts, clock, log: silentLog });
    const { certified = assert.fail() } = membership;
    const deps = {
      ...{ membership, certified, identity, log: silentLog, documents: () => new Map() },
      issuer: certified.issuer ?? assert.fail('its key is there'),
      root: { bytes: ROOT, digest: createHash('sha256').update(ROOT).digest('hex') },
      say: async (bytes: Uint8Array) => void certified.members.hear(bytes),
    };
    const options = { listen: ['/ip4/127.0.0.1/tcp/0'], requests: false };
    const reception = await Reception.open(deps, files.invitations, options);
    const open = stack.use({
      [Symbol.asyncDispose]: async () => {
        await reception[Symbol.asyncDispose]();
        await certified.store[Symbol.asyncDispose]();
        await clock[Symbol.asyncDispose]();
      },
    });
    const invite = async (facts: { site?: string; machine?: string } = {}) => {
      const notAfter = Math.floor(certified.now()) + 3600;
      return readToken((await reception.invite({ site: 'edge', roles: [], notAfter, ...facts })).token);
    };
    return { invite, clock, stop: () => open[Symbol.asyncDispose]() };
  };

  /** What the door gives; the certificate says who, and where it belongs. */
  const ask = async ({ peerId, privateKey }: Identity, door: DoorFacts, machine: readonly string[] = []) => {
    const wireguardKey = await loadWireguardKey(join(folder, peerId));
    const facts = { door, privateKey, wireguardKey, name: 'guest', machine };
    const options = { signal: AbortSignal.timeout(20_000), patienceMs: 3_000 };
    const { statements } = await knock(facts, options);
    return readCertificate(openStatement(statements[0] ?? assert.fail()), fleet.trust);
  };
  return { host, ask };
}

function refused(reason: RefusalReason, message = /./) {
  return (error: unknown) =>
    error instanceof AdmissionRefused && error.reason === reason && message.test(error.message);
}

suite('reception', { timeout: 60_000 }, () => {
  test('of two machines that come with one token at once, one is let in, to the site of the token', async (t) => {
    const { host, ask } = await scene(t);
    const token = await (await host(edge, 'edge')).invite();
    const both = await Promise.allSettled([ask(one, token), ask(other, token)]);
    const [certificate] = both.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
    const [why] = both.flatMap((each) => (each.status === 'rejected' ? [each.reason] : []));
    assert.equal(certificate?.site, 'edge');
    assert.ok(refused('used')(why), `${why}`);
  });

  test('a token is of no use at another door of the fleet, nor for another site than its issuer’s', async (t) => {
    const { host, ask } = await scene(t);
    const [ofEdge, ofOwner] = [await host(edge, 'edge'), await host(owner, 'owner')];
    await assert.rejects(ofEdge.invite({ site: 'hq' }), { code: 'STATEMENT_REFUSED', reason: 'site' });
    const [token, elsewhere] = [await ofEdge.invite(), await ofOwner.invite({ site: 'hq' })];
    const { peerId, addresses } = elsewhere;
    await assert.rejects(ask(one, { ...token, peerId, addresses }), refused('token'));
    assert.equal((await ask(one, token)).issuer, 'edge');
  });

  test('a token that was used lets in nobody else after its issuer has started anew', async (t) => {
    const { host, ask } = await scene(t);
    const first = await host(edge, 'edge');
    const token = await first.invite();
    await ask(one, token);
    await first.stop();
    const again = await host(edge, 'edge');
    const { addresses } = await again.invite();
    await assert.rejects(ask(other, { ...token, addresses }), refused('used', new RegExp(one.peerId)));
    assert.equal((await ask(one, { ...token, addresses })).peerId, one.peerId, 'the same one may hear it again');
  });

  test('a token for a machine lets in that machine alone, and another does not use it up', async (t) => {
    const { host, ask } = await scene(t);
    const token = await (await host(edge, 'edge')).invite({ machine: MAC });
    const message = /for another machine, and this one has serial:abc: ask for a new one/;
    await assert.rejects(ask(other, token, ['serial:abc']), refused('machine', message));
    await assert.rejects(ask(other, token), refused('machine', /nothing that it could be known by/));
    assert.equal((await ask(one, token, ['serial:abc', MAC])).peerId, one.peerId);
  });

  test('a token whose time is over is not good again when the clock is set back', async (t) => {
    const { host, ask } = await scene(t);
    let behind = 2 * 3_600_000;
    const { invite, clock } = await host(edge, 'edge', () => Date.now() - behind);
    const token = await invite();
    behind = 0;
    // Somebody else's certificate, two hours later.
    clock.signed(Date.now());
    behind = 2 * 3_600_000;
    await assert.rejects(ask(one, token), refused('expired'));
  });
});
