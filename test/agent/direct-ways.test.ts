import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { suite, type TestContext, test } from 'node:test';
import { DirectWays } from '../../src/agent/direct-ways.ts';
import { Members } from '../../src/fleet/members.ts';
import { silentLog } from '../../src/observe/log.ts';
import type { InterfaceDump } from '../../src/overlay/dump.ts';
import type { MemberQuestions } from '../../src/overlay/whereabouts.ts';
import { IssuingFleet, peerIds, T0 } from '../fakes/issuing-fleet.ts';

/** A node of the site hq that sees gateways and others of the site edge come and go. */
async function watching(t: TestContext) {
  const fleet = new IssuingFleet();
  const members = new Members({ trust: fleet.trust, now: () => T0 });
  const ids = await peerIds(6);
  const certify = (site: string, name: string, gateway: boolean) => {
    const peerId = ids.pop() ?? '';
    const certificate = fleet.certify({ peerId, site, name, roles: gateway ? ['gateway'] : [] });
    members.hear(certificate.bytes);
    return certificate;
  };
  const own = certify('hq', 'own', true);
  const near = certify('hq', 'near', false);
  const gate = certify('edge', 'gate', true);
  const spare = certify('edge', 'spare', true);
  const far = certify('edge', 'far', false);
  const other = certify('edge', 'other', false);
  const connected = new Set<string>();
  let time = 0;
  let serve: Parameters<MemberQuestions['serve']>[1] = async () => undefined;
  const documents: MemberQuestions = {
    peers: () => [...connected],
    ask: async () => undefined,
    serve: (_, provider) => {
      serve = provider;
    },
  };
  const swarm = { documents, connected: () => [...connected], events: new EventEmitter() };
  const ways = new DirectWays({
    membership: { own, certified: { members }, contacts: () => [near, gate, spare, far] },
    swarm,
    onNews: () => undefined,
    log: silentLog,
    elapsed: () => time,
  });
  t.after(() => ways[Symbol.dispose]());
  const seconds = Math.floor(Date.now() / 1000);
  const peers = [near, far].map(({ wireguardKey: publicKey }, n) => {
    return { publicKey, endpoint: `198.51.100.${n}:7`, allowedIps: [], handshakeAt: seconds, bytesIn: 0, bytesOut: 0 };
  });
  const heard = ({ wireguardKey: publicKey }: { readonly wireguardKey: string }) => {
    peers.push({ publicKey, endpoint: '', allowedIps: [], handshakeAt: seconds + 60, bytesIn: 0, bytesOut: 0 });
  };
  const dump: InterfaceDump = { publicKey: own.wireguardKey, listenPort: 1, peers };
  const look = (afterMs: number) => {
    time += afterMs;
    return ways.look([], [], dump);
  };
  return {
    ways,
    connected,
    look,
    heard,
    own,
    near,
    gate,
    spare,
    far,
    other,
    asked: (name: string, by: string) => serve(name, by),
  };
}

suite('direct ways', () => {
  test('of a gateway that was lost there is none after 15 s, until it is back; this node is never lost', async (t) => {
    const { ways, connected, look, own, gate, spare } = await watching(t);
    connected.add(gate.peerId);
    connected.add(spare.peerId);
    look(0);
    look(60_000);
    assert.equal(ways.rankOf(gate.peerId), 0);
    connected.delete(gate.peerId);
    look(0);
    look(14_000);
    assert.equal(ways.rankOf(gate.peerId), 0, 'it may start anew');
    look(2_000);
    assert.equal(ways.rankOf(gate.peerId), 1);
    assert.equal(ways.rankOf(own.peerId), 0);
    connected.add(gate.peerId);
    look(0);
    assert.equal(ways.rankOf(gate.peerId), 0);
  });

  test('of gateways that are all lost, each is tried in turn, until one is heard of by WireGuard', async (t) => {
    const { ways, look, gate, spare, heard } = await watching(t);
    look(0);
    look(16_000);
    const first = () => [gate, spare].find(({ peerId }) => ways.rankOf(peerId) === 1)?.name;
    const tried = Array.from({ length: 4 }, () => {
      look(30_000);
      return first();
    });
    assert.deepEqual(tried, [tried[0], tried[1], tried[0], tried[1]]);
    assert.deepEqual(tried.slice(0, 2).toSorted(), ['gate', 'spare']);
    heard(spare);
    look(0);
    assert.deepEqual([ways.rankOf(spare.peerId), ways.rankOf(gate.peerId)], [0, 1]);
  });

  test('where this node hears from a member is told to those of a third site, and nothing of its own site', async (t) => {
    const { look, near, far, other, own, asked } = await watching(t);
    look(0);
    const told = async (of: string, by: string) => {
      const answer = await asked(`overlay/seen/${of}`, by);
      return answer && Buffer.from(answer).toString();
    };
    assert.equal(await told(far.peerId, near.peerId), '198.51.100.1:7');
    assert.equal(await told(far.peerId, other.peerId), undefined, 'its site has a nearer way');
    assert.equal(await told(near.peerId, far.peerId), undefined, 'an address of the segment is of no use outside');
    assert.equal(await told(other.peerId, near.peerId), undefined, 'it has no session');
    assert.equal(await told(far.peerId, 'nobody'), undefined);
    assert.equal(await told(own.peerId, far.peerId), undefined);
  });
});
