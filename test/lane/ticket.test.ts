import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { TICKET_MS, Tickets } from '../../src/lane/ticket.ts';

const about = { kind: 'tls', port: 1, diallerSends: false } as const;
const nothing = () => undefined;

suite('lane tickets', () => {
  test('a ticket is good once, for its lane, and for a few seconds', () => {
    let now = 0;
    const tickets = new Tickets(() => now);
    const give = () => {
      const ticket = tickets.issue('a', about, nothing);
      assert.ok(ticket);
      return ticket;
    };
    const first = give();
    assert.equal(tickets.take(first.id, 'tls')?.secret, first.secret);
    assert.equal(tickets.take(first.id, 'tls'), undefined);
    const otherLane = give();
    assert.equal(tickets.take(otherLane.id, 'plain'), undefined);
    assert.equal(tickets.take(otherLane.id, 'tls'), undefined, 'a try with the wrong lane uses it up');
    const late = give();
    now += TICKET_MS;
    assert.equal(tickets.take(late.id, 'tls'), undefined);
    const revoked = give();
    tickets.revoke('a');
    assert.equal(tickets.take(revoked.id, 'tls'), undefined);
  });

  test('a peer has few tickets at a time, and there are not many in all', () => {
    let now = 0;
    const tickets = new Tickets(() => now);
    const given = (peer: string) => tickets.issue(peer, about, nothing) !== undefined;
    assert.deepEqual(
      Array.from({ length: 6 }, () => given('greedy')),
      [true, true, true, true, false, false],
    );
    const all = Array.from({ length: 1000 }, (_, n) => given(`peer ${n}`)).filter(Boolean).length;
    assert.ok(all < 520, `${all} tickets`);
    now += TICKET_MS;
    assert.ok(given('greedy'), 'expired tickets make room');
  });
});
