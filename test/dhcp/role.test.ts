import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Role } from '../../src/dhcp/role.ts';

describe('the role of a node', () => {
  const auto = { mode: 'auto', hasPool: true, discoveryMs: 4000, foreignLifeMs: 60_000 } as const;

  it('is decided after a look around, and changes at once when a foreign server shows', () => {
    const role = new Role(auto, 0);
    assert.equal(role.at(3999), 'undecided');
    assert.equal(role.at(4000), 'server');
    role.sawForeign('10.66.0.254', 5000);
    assert.equal(role.at(5000), 'proxy');
    assert.equal(role.foreign(5000), '10.66.0.254');
    assert.equal(role.at(65_000), 'proxy');
    assert.equal(role.at(65_001), 'server', 'the foreign server was switched off');
  });

  it('is proxy early when a foreign server answers, and for ever without a pool', () => {
    const role = new Role(auto, 0);
    role.sawForeign('10.66.0.254', 100);
    assert.equal(role.at(100), 'proxy');
    assert.equal(new Role({ ...auto, hasPool: false }, 0).at(0), 'proxy');
  });

  it('counts hearsay, but does not pass it on', () => {
    const role = new Role(auto, 0);
    role.heardOfForeign('10.66.0.254', 100);
    assert.equal(role.at(100), 'proxy');
    assert.equal(role.foreignSeen(100), undefined);
  });

  it('can be forced', () => {
    const role = new Role({ ...auto, mode: 'server' }, 0);
    role.sawForeign('10.66.0.254', 0);
    assert.equal(role.at(0), 'server');
  });
});
