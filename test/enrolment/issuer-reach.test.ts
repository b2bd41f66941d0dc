import assert from 'node:assert/strict';
import type { KeyObject } from 'node:crypto';
import { suite, test } from 'node:test';
import { IssuerReach } from '../../src/enrolment/issuer-reach.ts';
import { silentLog } from '../../src/observe/log.ts';
import { IssuingFleet, newWireguardKey } from '../fakes/issuing-fleet.ts';
import { FakeNetwork, type FakeNode } from '../fakes/metadata-network.ts';

const MINUTE = 60_000;
const fleet = new IssuingFleet();
const stranger = new IssuingFleet();

/** One node that asks, and others, with an issuer's key or without, that it can be linked with. */
function scene() {
  const network = new FakeNetwork();
  const clock = { now: 0 };
  const reachOf = (id: string, issuerKey?: KeyObject) => {
    const node = network.node(id);
    const trust = () => fleet.trust;
    const facts = { network: node, peerId: id, issuerKey, trust, log: silentLog, elapsed: () => clock.now };
    return { node, reach: new IssuerReach(facts) };
  };
  const own = reachOf('own');
  const peer = (id: string, key?: KeyObject): FakeNode => reachOf(id, key).node;
  const unlink = (id: string) => own.node.links.delete(id);
  const after = async (minutes: number, site = 'edge') => {
    clock.now += minutes * MINUTE;
    return await own.reach.look(site, AbortSignal.timeout(10_000));
  };
  return { network, own, peer, unlink, after };
}

suite('issuer reach', () => {
  test('an issuer of the site that has been there for ten minutes is, until it is gone for as long', async () => {
    const { network, peer, unlink, after } = scene();
    const issuer = peer('issuer', fleet.key('edge'));
    const other = peer('other');
    network.linkQuietly('own', 'issuer', 'other');
    assert.equal(await after(0), false);
    for (const minutes of [3, 3, 3]) assert.equal(await after(minutes), false);
    assert.equal(await after(1), true);
    assert.equal(await after(1), true);
    assert.ok(other.asked.length < 3 && issuer.asked.length <= 5, 'who has it is asked, and that seldom');
    unlink('issuer');
    assert.equal(await after(5), true, 'it may be restarting');
    assert.equal(await after(5), false);
    network.linkQuietly('own', 'issuer');
    assert.equal(await after(5), false, 'and has all of its time again when it is back');
    for (const minutes of [4, 4, 4]) await after(minutes);
    assert.equal(await after(0), true);
  });

  test('an issuer for all sites counts in each, one of another site does not', async () => {
    const { network, peer, after } = scene();
    peer('edge', fleet.key('edge'));
    network.linkQuietly('own', 'edge');
    for (const _ of [1, 2, 3]) assert.equal(await after(5, 'hq'), false);
    peer('owner', fleet.key('owner'));
    network.linkQuietly('own', 'owner');
    await after(5, 'hq');
    await after(5, 'hq');
    assert.equal(await after(5, 'hq'), true);
  });

  test('nobody is one who has no key of the fleet, or shows what an issuer has signed elsewhere', async () => {
    const { network, peer, after } = scene();
    peer('stranger', stranger.key('edge'));
    const issuer = peer('issuer', fleet.key('edge'));
    const kept: Uint8Array[] = [];
    // Asks the issuer as if it were the one that was asked.
    const relay = network.liar('relay', async (name, options) => {
      network.linkQuietly('relay', 'issuer');
      const proof = await relay.ask('issuer', name, options);
      kept.push(proof ?? Buffer.alloc(0));
      return proof;
    });
    network.liar('replay', async () => kept[0]);
    network.liar('liar', async () => Buffer.from(newWireguardKey()));
    network.linkQuietly('own', 'stranger', 'relay', 'replay', 'liar');
    for (const _ of [1, 2, 3, 4]) assert.equal(await after(5), false);
    assert.ok(kept.some((proof) => proof.length === 96) && issuer.asked.length > 0);
  });
});
