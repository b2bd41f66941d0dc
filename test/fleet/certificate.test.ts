import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { type Certificate, issueCertificate, readCertificate, renewAt, standing } from '../../src/fleet/certificate.ts';
import { overlayAddress } from '../../src/fleet/overlay-address.ts';
import { openStatement, StatementRefused, sealStatement } from '../../src/fleet/statement.ts';
import type { TrustList } from '../../src/fleet/trust-list.ts';
import { DAY_S, factsOf, IssuingFleet, peerIds, T0 } from '../fakes/issuing-fleet.ts';

const fleet = new IssuingFleet();
const { trust } = fleet;
const [peerId = '', otherId = ''] = await peerIds(2);

function read(bytes: Uint8Array, by: TrustList = trust): Certificate {
  return readCertificate(openStatement(bytes), by);
}

function refused(reason: StatementRefused['reason']) {
  return (error: unknown) => error instanceof StatementRefused && error.reason === reason;
}

suite('certificate', () => {
  test('says what its issuer said, and where its member is in the overlay', () => {
    const facts = factsOf({ peerId, roles: ['gateway', 'seed'], name: 'edge gateway' });
    const certificate = read(issueCertificate(facts, fleet.key('owner'), trust).bytes);
    const { epoch, issuer, address, bytes, ...rest } = certificate;
    assert.deepEqual(rest, facts);
    assert.equal(epoch, trust.epoch);
    assert.equal(issuer, 'owner');
    assert.equal(address, overlayAddress(Buffer.from(trust.fleetId, 'hex'), 2, peerId));
    assert.ok(bytes.length < 400, `${bytes.length} bytes`);
  });

  test('a site’s issuer admits to its site, with its roles and its lifetime, and no further', () => {
    assert.equal(fleet.certify({ peerId, roles: ['seed'] }, 'edge').issuer, 'edge');
    assert.throws(() => fleet.certify({ peerId, site: 'hq' }, 'edge'), refused('site'));
    assert.throws(() => fleet.certify({ peerId, roles: ['gateway'] }, 'edge'), refused('role'));
    assert.throws(() => fleet.certify({ peerId, notAfter: T0 + 31 * DAY_S }, 'edge'), refused('lifetime'));
    for (const site of ['moon', 'constructor']) {
      assert.throws(() => fleet.certify({ peerId, site }), refused('site'));
    }
  });

  test('counts in its own fleet alone, while its issuer and its epoch do', () => {
    const { bytes } = fleet.certify({ peerId }, 'edge');
    const another = new IssuingFleet({ fleetId: 'ff'.repeat(16) });
    assert.throws(() => read(bytes, another.trust), refused('fleet'));
    assert.throws(() => read(bytes, new IssuingFleet().trust), refused('issuer'));
    assert.throws(() => read(bytes, { ...trust, issuers: trust.issuers.slice(0, 1) }), refused('issuer'));
    assert.throws(() => read(bytes, { ...trust, epoch: trust.epoch + 1 }), refused('epoch'));
  });

  test('with any bit changed it is refused, or says the same and is kept as it was', () => {
    const { bytes } = fleet.certify({ peerId }, 'edge');
    let same = 0;
    for (let bit = 0; bit < 8 * bytes.length; bit += 1) {
      const changed = Uint8Array.from(bytes);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      try {
        assert.deepEqual(Buffer.from(read(changed).bytes), Buffer.from(bytes), `bit ${bit}`);
        same += 1;
      } catch (error) {
        assert.ok(error instanceof StatementRefused, `bit ${bit}: ${error}`);
      }
    }
    // The decoder does not look at the wire types of the three outer fields.
    assert.ok(same <= 9, `${same} bits that mean nothing`);
  });

  test('a signature made for something else does not make one', () => {
    const { body } = openStatement(fleet.certify({ peerId }).bytes);
    const revocation = sealStatement('revocation', body, fleet.key('owner'));
    assert.throws(() => read(revocation), refused('malformed'));
    const { body: words } = openStatement(fleet.revoke(peerId).bytes);
    assert.throws(() => read(sealStatement('certificate', words, fleet.key('owner'))), StatementRefused);
  });

  test('is refused when what it says makes no sense, whoever signed', () => {
    assert.throws(() => fleet.certify({ peerId: 'nobody' }), refused('malformed'));
    assert.throws(() => fleet.certify({ peerId, wireguardKey: 'AAAA' }), refused('malformed'));
    assert.throws(() => fleet.certify({ peerId, notAfter: T0 }), refused('malformed'));
    assert.throws(() => fleet.certify({ peerId, name: 'x'.repeat(65) }), refused('malformed'));
    assert.throws(() => openStatement(new Uint8Array(1025)), refused('malformed'));
    // Field 9 is nobody's yet.
    const later = [0x4a, 1, 7, 0x1a, 32, ...new Uint8Array(32), 0x22, 64, ...new Uint8Array(64)];
    assert.throws(() => openStatement(Uint8Array.from(later)), refused('kind'), 'of a later version, and no lie');
  });

  test('whatever the bytes are, they are read or refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 1100 }), (bytes) => {
        assert.throws(() => read(bytes), StatementRefused);
      }),
    );
  });

  test('has its time, clocks being what they are, and is renewed when a third of it is left', () => {
    const certificate = fleet.certify({ peerId: otherId });
    assert.equal(standing(certificate, T0 - 301), 'early');
    assert.equal(standing(certificate, T0 - 299), 'valid');
    assert.equal(standing(certificate, T0 + 30 * DAY_S), 'valid');
    assert.equal(standing(certificate, T0 + 30 * DAY_S + 1), 'expired');
    assert.equal(standing(certificate, T0 + 31 * DAY_S, 7 * DAY_S), 'valid');
    assert.equal(renewAt(certificate), T0 + 20 * DAY_S);
  });
});
