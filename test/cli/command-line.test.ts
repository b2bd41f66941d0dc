import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runCli } from './run-cli.ts';

const verbs = [
  ...['up', 'id', 'publish', 'get', 'status', 'peers', 'ls', 'pin', 'unpin', 'gc', 'verify'],
  ...['image initramfs', 'lab up', 'lab status', 'lab exec', 'lab down', 'overlay status', 'overlay export', 'join'],
  ...['init', 'invite', 'pending', 'approve', 'allow', 'ls', 'show', 'renew', 'revoke'].map((verb) => `fleet ${verb}`),
  ...['fleet issuer add', 'fleet courier export', 'fleet courier import'],
];

describe('the command line', () => {
  it('has help with examples and --json for every verb, and documents its exit codes', {
    timeout: 60_000,
  }, async () => {
    const { code, stdout } = await runCli('--help');
    assert.equal(code, 0);
    for (const verb of verbs) assert.match(stdout, new RegExp(`^  ${verb.split(' ')[0]}\\b`, 'm'));
    assert.match(stdout, /Exit codes:\n {2}0 {2}done\n/);
    for (let at = 0; at < verbs.length; at += 3) {
      await Promise.all(
        verbs.slice(at, at + 3).map(async (verb) => {
          const help = await runCli(...verb.split(' '), '--help');
          assert.equal(help.code, 0, help.stderr);
          assert.match(help.stdout, new RegExp(`Usage: bootmesh ${verb}`));
          assert.match(help.stdout, /--json [\s\S]*Examples:\n {2}\$ bootmesh /);
        }),
      );
    }
  });

  const mistakes: [string[], RegExp][] = [
    [['stat'], /unknown command 'stat'\n\(Did you mean status\?\)/],
    [['status', '--jsno'], /unknown option '--jsno'\n\(Did you mean --json\?\)/],
    [['get', 'production'], /required option '-o, --output <file>' not specified/],
    [['get'], /missing required argument 'name'|required option/],
    [['pin', 'x', 'y'], /too many arguments/],
    [['join'], /name a token, or the fleet’s root\.json with --root/],
    [['join', 'hello'], /a token is one word that starts with bm1\./],
    [['join', '--root', '/nonexistent', '--door', 'there'], /--door there is none/],
    [['fleet', 'invite', '--for', 'ever'], /--for ever is no time: write 15min, 1h or 2d/],
    [['up', '--boot-mode', 'maybe'], /Allowed choices are off, auto, server, proxy/],
    [['up', '--boot-pool', '192.0.2.1'], /--boot-pool 192\.0\.2\.1: write the first and the last address/],
    [['up', '--gateway-listen', 'nowhere', '--data', '/nonexistent/x'], /gateway\.listen\.0: is ADDRESS:PORT/],
    [['status', '--config', '/nonexistent.yaml'], /\/nonexistent\.yaml cannot be read/],
    [['lab', 'up', '/nonexistent.yaml', '--directory', '/nonexistent'], /nonexistent\.yaml/],
  ];
  for (const [args, hint] of mistakes) {
    it(`refuses \`${args.join(' ')}\` with a hint and exit code 2`, async () => {
      const [plain, json] = await Promise.all([runCli(...args), runCli(...args, '--json')]);
      assert.equal(plain.code, 2, plain.stderr);
      assert.match(plain.stderr, hint);
      assert.equal(plain.stdout, '');
      const { error } = json.json() as { error: { code: string; exit: number } };
      assert.deepEqual([json.code, error.code, error.exit], [2, 'USAGE', 2]);
    });
  }
});
