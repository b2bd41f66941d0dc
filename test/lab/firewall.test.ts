import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cutRules, natRules } from '../../src/lab/firewall.ts';

const drops = (rules: string) => rules.match(/^ +.*drop$/gm)?.map((line) => line.trim()) ?? [];
const port = (site: string) => `w-${site}`;

test('a NAT lets nothing in that was not asked for, neither through nor to itself', () => {
  assert.match(natRules('wan', 'kept'), /oifname "wan" masquerade$/m);
  assert.match(natRules('wan', 'random'), /oifname "wan" masquerade fully-random$/m);
  const [input, forward, ...more] = drops(natRules('wan', 'kept'));
  assert.deepEqual([input, forward, more], [...Array(2).fill('iifname "wan" ct state new drop'), []]);
});

test('a cut holds in both directions, and the rules replace those before', () => {
  assert.deepEqual(drops(cutRules([['a', 'b'], ['c']], port)), [
    'iifname "w-a" oifname "w-b" drop',
    'iifname "w-b" oifname "w-a" drop',
    'iifname "w-c" drop',
    'oifname "w-c" drop',
  ]);
  assert.deepEqual(drops(cutRules([], port)), []);
  assert.match(cutRules([], port), /^table bridge cuts \{\n\}\ndelete table bridge cuts\ntable bridge cuts \{/);
});
