import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { AdmissionRefused } from '../../src/admission/refusal.ts';
import { Requests } from '../../src/admission/requests.ts';

const request = (peerId: string, name = 'edge') => ({ peerId, name, machine: [`serial:${peerId}`] });
const pending = (error: unknown) => error instanceof AdmissionRefused && error.reason === 'pending';
const APPROVAL = { site: 'edge', roles: [] };

suite('requests', () => {
  test('wait to be approved, by peer id or a name that only one has, and are approved for an hour', () => {
    const requests = new Requests();
    assert.throws(() => requests.approvalOf(request('a', 'one'), 1000), /fleet approve a/);
    assert.throws(() => requests.approvalOf(request('b'), 2000), pending);
    assert.throws(() => requests.approvalOf(request('c'), 2000), pending);
    assert.throws(() => requests.approvalOf(request('a', 'one'), 3000), pending);
    assert.deepEqual(
      requests.list(3000).map(({ peerId, firstAt, lastAt }) => [peerId, firstAt, lastAt]),
      [
        ['b', 2000, 2000],
        ['c', 2000, 2000],
        ['a', 1000, 3000],
      ],
    );
    assert.equal(requests.find('edge', 3000), undefined, 'two are called that');
    const found = requests.find('one', 3000);
    assert.ok(found);
    requests.approve(found, APPROVAL, 3000);
    assert.partialDeepStrictEqual(requests.approvalOf(request('a', 'one'), 4000), APPROVAL);
    assert.throws(() => requests.approvalOf(request('a', 'one'), 3000 + 3_600_000), pending, 'too late');
    assert.throws(() => requests.approvalOf(request('b'), 4000), pending, 'nobody else');
    requests.approve(found, APPROVAL, 5000);
    requests.admitted('a');
    assert.throws(() => requests.approvalOf(request('a', 'one'), 6000), pending, 'once');
  });

  test('are forgotten when nobody asks any more, and crowd out none but the oldest', () => {
    const requests = new Requests();
    for (let n = 0; n < 1000; n += 1) assert.throws(() => requests.approvalOf(request(`peer-${n}`), n), pending);
    assert.deepEqual([requests.list(1000).length, requests.list(1000).at(-1)?.peerId], [64, 'peer-999']);
    assert.deepEqual(requests.list(700_000), []);
  });
});
