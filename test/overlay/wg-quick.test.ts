import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { SecretKey, type WireGuardNetwork, type WireGuardPeer } from '../../src/overlay/network.ts';
import { formatNetwork, MAX_WG_QUICK_BYTES, parseNetwork, WgQuickInvalid } from '../../src/overlay/wg-quick.ts';

const base64 = (hex: string) => Buffer.from(hex, 'hex').toString('base64');
// RFC 7748 section 6.1.
const ALICE_SECRET = base64('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a');
const ALICE = base64('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a');
const BOB = base64('de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f');
const CAROL = Buffer.alloc(32, 7).toString('base64');
const PRESHARED = Buffer.alloc(32, 9).toString('base64');

/** As people write them: what wireguard-tools alone gets wrong in this text is every second line. */
const GOOD = `# Address = 192.0.2.66/32
[interface]
Address = 10.0.0.7/24, FD00:0::7/64   # two
address=10.9.0.7
PrivateKey = ${ALICE_SECRET}
ListenPort=7

[Peer] # Name = MTU
PublicKey=${BOB}
Endpoint = [2001:DB8:0::1]:51820
AllowedIPs = 10.0.0.1/32
AllowedIPs = 10.1.0.9/16,fd00:1::/64
PersistentKeepalive = 25
PresharedKey = ${PRESHARED}

[Peer]
PublicKey = ${CAROL}
AllowedIPs = 10.0.0.2
Endpoint = Relay-1.example.ORG:443
PersistentKeepalive = off
`;

test('a configuration as people write them is read as WireGuard would, and written back', () => {
  const network = parseNetwork(GOOD, 'wg0.conf');
  const { privateKey, ...own } = network.interface;
  assert.deepEqual(own, {
    addresses: ['10.0.0.7/24', 'fd00::7/64', '10.9.0.7/32'],
    listenPort: 7,
    publicKey: ALICE,
  });
  assert.equal(privateKey.reveal().toString('base64'), ALICE_SECRET);
  const [first, second] = network.peers;
  assert.equal(first?.presharedKey?.reveal().toString('base64'), PRESHARED);
  assert.deepEqual(JSON.parse(JSON.stringify(first)), {
    publicKey: BOB,
    presharedKey: '(secret)',
    endpoint: '[2001:db8::1]:51820',
    allowedIps: ['10.0.0.1/32', '10.1.0.0/16', 'fd00:1::/64'],
    persistentKeepalive: 25,
  });
  assert.deepEqual(second, { publicKey: CAROL, endpoint: 'relay-1.example.org:443', allowedIps: ['10.0.0.2/32'] });
  assert.deepEqual(parseNetwork(formatNetwork(network), 'again'), network);
  assert.deepEqual(parseNetwork(GOOD.replaceAll('\n', '\r\n'), 'from Windows'), network);
});

test('keys that hold the names of fields are keys', () => {
  const secret = `MTU7ListenPortAddress${ALICE_SECRET.slice(21)}`;
  const text = `[Interface]\nPrivateKey = ${secret}\nAddress = 10.0.0.7/24\n[Peer]\nAllowedIPs = ::/0\nPublicKey = EndpointName${BOB.slice(12)}`;
  const network = parseNetwork(text, 'wg0.conf');
  assert.deepEqual(Object.keys(network.interface).sort(), ['addresses', 'privateKey', 'publicKey']);
  assert.equal(network.interface.privateKey.reveal().toString('base64'), secret);
  assert.equal(network.peers[0]?.endpoint, undefined);
});

test('secrets do not show', () => {
  const network = parseNetwork(GOOD, 'wg0.conf');
  for (const shown of [JSON.stringify(network), inspect(network, { depth: 9, showHidden: true }), `${network}`]) {
    for (const secret of [ALICE_SECRET, PRESHARED]) {
      assert.ok(!shown.includes(secret.slice(0, 8)));
      assert.ok(!shown.includes(Buffer.from(secret, 'base64').toString('hex').slice(0, 8)));
    }
  }
});

/** `change` applied to the good text, the line at fault, and what is said about it. */
type Fault = readonly [change: (text: string) => string, line: number, message: RegExp];
const FAULTS: readonly Fault[] = [
  ...['PreUp', 'PostUp', 'PREDOWN', 'postdown'].map(
    (name): Fault => [add(`${name} = touch /tmp/x`), 6, /^wg0\.conf:6: \w+ runs a command as root .*: remove/],
  ),
  [add('SaveConfig = true'), 6, /SaveConfig lets wg-quick overwrite the file.*: remove the line$/],
  [add('DNS = 192.0.2.1'), 6, /DNS is not imported: remove the line/],
  [add('AllowedIPs = ::/0'), 6, /AllowedIPs is no field of \[Interface\]: known are Address, ListenPort, MTU/],
  [add(ALICE_SECRET), 6, /is no `Name = value`/],
  [add('ListenPort = 8'), 7, /ListenPort is there twice: keep one/],
  [add('MTU = 1279'), 6, /MTU takes a number from 1280 to 65535, or 0 for none/],
  [add('MTU = 1280; reboot'), 6, /MTU takes/],
  [add('Address = 10.0.0.300/24'), 6, /Address takes addresses such as/],
  [add('Address = 10.0.0.3/33'), 6, /Address takes/],
  [add('Address = fe80::1%eth0/64'), 6, /Address takes/],
  [add('Address ='), 6, /Address takes/],
  [add('# \x1b[2J'), 6, /control character/],
  [add('[Interface]'), 6, /\[Interface\] has no Address: add the line/],
  [add(`[Interface]\nAddress = ::1\nPrivateKey = ${BOB}`), 6, /second \[Interface\]/],
  [(text) => text.replace('ListenPort=7', 'ListenPort=65536'), 6, /ListenPort takes/],
  [(text) => text.replace(/^PrivateKey.*$/m, ''), 2, /\[Interface\] has no PrivateKey/],
  [(text) => text.replace(ALICE_SECRET, ALICE_SECRET.slice(4)), 5, /PrivateKey takes 32 bytes in base64/],
  [(text) => text.replace(BOB, `${BOB.slice(0, 42)}9=`), 9, /PublicKey takes/],
  [(text) => text.replace(BOB, CAROL), 16, /PublicKey of another \[Peer\]/],
  [(text) => text.replace(BOB, `PresharedKey${BOB.slice(12)}`), 8, /PresharedKey of this section cannot be read/],
  [(text) => text.replace(BOB, ALICE), 8, /or of this machine/],
  [(text) => text.replace('= 10.0.0.2', '= 10.1.2.0/24'), 16, /10\.1\.2\.0\/24 overlaps with 10\.1\.0\.0\/16 .*line 8/],
  [(text) => text.replace('= 10.0.0.2', '= 10.0.0.0/8'), 8, /10\.0\.0\.1\/32 overlaps with 10\.0\.0\.0\/8 .*line 16/],
  [(text) => text.replace('= 10.0.0.2', '= FD00:1:0::/64'), 16, /fd00:1::\/64 overlaps/],
  [(text) => text.replace('ORG:443', 'ORG'), 19, /Endpoint takes HOST:PORT/],
  [(text) => text.replace('ORG:443', 'ORG:0'), 19, /Endpoint takes/],
  [(text) => text.replace('ORG:443', '999:443'), 19, /Endpoint takes/],
  [(text) => text.replace('ORG:443', '$(reboot):443'), 19, /Endpoint takes/],
  [(text) => text.replace('Relay', '-relay'), 19, /Endpoint takes/],
  [(text) => text.replace('[2001:DB8:0::1]', '2001:DB8:0::1'), 10, /Endpoint takes/],
  [(text) => text.replace('= 25', '= 25s'), 13, /PersistentKeepalive takes a number from 1 to 65535, or off/],
  [(text) => text.replace('[interface]', ''), 3, /is no `Name = value` of an \[Interface\]/],
  [() => '', 1, /has no \[Interface\]/],
  [() => '#'.repeat(MAX_WG_QUICK_BYTES + 1), 1, /larger than 1 MiB/],
];

function add(line: string): (text: string) => string {
  return (text) => text.replace('ListenPort', `${line}\nListenPort`);
}

test('what may not be imported is refused with its file, line, and what to do', () => {
  for (const [change, line, message] of FAULTS) {
    const text = change(GOOD);
    assert.notEqual(text, GOOD);
    assert.throws(
      () => parseNetwork(text, 'wg0.conf'),
      (error) => {
        assert.ok(error instanceof WgQuickInvalid, String(error));
        assert.match(error.message, message);
        assert.equal(error.line, line, error.message);
        assert.ok(error.message.startsWith(`wg0.conf:${line}: `));
        assert.ok(!inspect(error).includes(ALICE_SECRET.slice(0, 8)));
        return true;
      },
    );
  }
});

/** Peers get addresses of their own from their place in the list, so that they never overlap. */
const key = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('base64'));
const port = fc.integer({ min: 1, max: 65_535 });
const ipv6 = fc.ipV6().map((text) => `[${new URL(`http://[${text}]`).hostname.slice(1, -1)}]`);
const endpoint = fc
  .tuple(
    fc.oneof(
      fc.ipV4(),
      ipv6,
      fc.domain().map((name) => name.toLowerCase()),
    ),
    port,
  )
  .map((each) => each.join(':'));
const networks = fc
  .record({
    privateKey: key,
    own: fc.record({ listenPort: port, mtu: fc.integer({ min: 1280, max: 65_535 }) }, { requiredKeys: [] }),
    peers: fc.uniqueArray(
      fc.record(
        { publicKey: key, presharedKey: key.map((text) => new SecretKey(text)), endpoint, persistentKeepalive: port },
        { requiredKeys: ['publicKey'] },
      ),
      { selector: (peer) => peer.publicKey, maxLength: 6 },
    ),
    prefix: fc.integer({ min: 24, max: 32 }),
  })
  .map(({ privateKey, own, peers, prefix }): WireGuardNetwork => {
    const secret = new SecretKey(privateKey);
    return {
      interface: {
        addresses: ['10.0.0.7/16', 'fd00::7/48'],
        ...own,
        publicKey: secret.publicKey(),
        privateKey: secret,
      },
      peers: peers.map((peer, at): WireGuardPeer => {
        return { ...peer, allowedIps: [`10.0.${at}.0/${prefix}`, `fd00:0:0:${at + 1}::/64`] };
      }),
    };
  });

/** What an importer may hand on to `wg`, `ip`, a log or a terminal. */
const HARMLESS = /^[A-Za-z0-9+/=.:[\]-]+$/;

function assertHarmless(network: WireGuardNetwork): void {
  JSON.stringify(network, (_, value) => {
    if (typeof value === 'string' && value !== '(secret)') assert.match(value, HARMLESS);
    return value;
  });
}

describe('for any input', () => {
  test('a network survives being written and read again, secrets included', () => {
    fc.assert(
      fc.property(networks, (network) => {
        const again = parseNetwork(formatNetwork(network), 'again');
        assert.deepEqual(again, network);
        const secrets = ({ interface: own, peers }: WireGuardNetwork) =>
          [own.privateKey, ...peers.map((peer) => peer.presharedKey)].map((each) => each?.reveal().toString('hex'));
        assert.deepEqual(secrets(again), secrets(network));
      }),
      { numRuns: 2_000 },
    );
  });

  test('hostile text is refused, or read into harmless fields', () => {
    const signs = fc.constantFrom(
      '\n',
      '\r',
      '\u2028',
      '\0',
      '[',
      ']',
      '=',
      '#',
      ';',
      '$(x)',
      '`x`',
      ',',
      ' ',
      '%',
      '🙂',
    );
    const words = fc.constantFrom(
      'PostUp = x',
      'Endpoint = a:1',
      '[Peer]',
      '[Interface]',
      'MTU',
      'Address',
      '::/0',
      BOB,
    );
    const piece = fc.oneof(signs, words, fc.string({ unit: 'binary', maxLength: 6 }), fc.string({ maxLength: 12 }));
    const edit = fc.record({ at: fc.nat(GOOD.length), drop: fc.nat(3), pieces: fc.array(piece, { maxLength: 3 }) });
    const seen = { read: 0, refused: 0 };
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 3 }), (edits) => {
        let text = GOOD;
        for (const { at, drop, pieces } of edits) text = text.slice(0, at) + pieces.join('') + text.slice(at + drop);
        try {
          const network = parseNetwork(text, 'wg0.conf');
          assertHarmless(network);
          assert.deepEqual(parseNetwork(formatNetwork(network), 'again'), network);
          seen.read++;
        } catch (error) {
          if (!(error instanceof WgQuickInvalid)) throw error;
          assert.ok(!error.message.includes(ALICE_SECRET.slice(0, 12)));
          // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
          assert.doesNotMatch(error.message, /[\0-\x1f\x7f]/);
          seen.refused++;
        }
      }),
      { numRuns: 20_000 },
    );
    assert.ok(seen.read > 500 && seen.refused > 5_000, JSON.stringify(seen));
  });

  test('a network with a hostile field has no text', () => {
    const bad = fc.oneof(
      fc.constantFrom('a:1\nPostUp = touch x', 'a:1 # b', 'A:1', 'a:1;x', '10.0.0.7/24', '::0/0', `${BOB} `, ''),
      fc.string({ unit: 'binary' }),
    );
    const good = parseNetwork(GOOD, 'wg0.conf');
    const [peer] = good.peers;
    assert.ok(peer);
    const places: ((value: string) => WireGuardNetwork)[] = [
      (value) => ({ ...good, interface: { ...good.interface, addresses: [value] } }),
      (value) => ({ ...good, interface: { ...good.interface, publicKey: value } }),
      (value) => ({ ...good, interface: { ...good.interface, privateKey: new SecretKey(value) } }),
      (value) => ({ ...good, peers: [{ ...peer, publicKey: value }] }),
      (value) => ({ ...good, peers: [{ ...peer, endpoint: value }] }),
      (value) => ({ ...good, peers: [{ ...peer, allowedIps: ['fd00:9::/64', value] }] }),
    ];
    fc.assert(
      fc.property(fc.nat(places.length - 1), bad, (at, value) => {
        const network = places[at]?.(value) ?? good;
        // An address with host bits is what an interface has; a block has none.
        fc.pre(!(at === 0 && value === '10.0.0.7/24'));
        assert.throws(() => formatNetwork(network), WgQuickInvalid);
      }),
      { numRuns: 5_000 },
    );
    const odd = { ...good.interface, listenPort: 1.5 };
    assert.throws(() => formatNetwork({ ...good, interface: odd }), WgQuickInvalid);
  });
});

test('of wireguard-tools only the parser and the writer of text are used', async () => {
  const src = fileURLToPath(new URL('../../src', import.meta.url));
  const files = (await readdir(src, { recursive: true })).filter((file) => file.endsWith('.ts'));
  const texts = await Promise.all(files.map((file) => readFile(join(src, file), 'utf8')));
  const uses = texts.flatMap(
    (text) => text.match(/^.*\b(?:from|import|require)\b[^'"]*['"]wireguard-tools.*$/gm) ?? [],
  );
  assert.deepEqual(uses, ["import { generateConfigString, parseConfigString } from 'wireguard-tools';"]);
});

describe('bootmesh overlay check', () => {
  let directory = '';
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'bm-wg-'));
  });
  after(async () => await rm(directory, { recursive: true }));

  const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
  const check = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((done) => {
      const child = execFile(process.execPath, [main, 'overlay', 'check', ...args], (_error, stdout, stderr) => {
        done({ code: child.exitCode ?? -1, stdout, stderr });
      });
    });

  test('prints the network, or why it is refused, and exits as documented', async () => {
    const file = join(directory, 'wg0.conf');
    const evil = join(directory, 'evil.conf');
    const huge = join(directory, 'huge.conf');
    await writeFile(file, GOOD);
    await writeFile(evil, GOOD.replace('ListenPort', `PostUp = touch ${directory}/ran\nListenPort`));
    await writeFile(huge, '');
    await truncate(huge, 2 ** 40);
    const [text, json, refused, tooLarge, missing] = await Promise.all([
      check(file),
      check(file, '--json'),
      check(evil),
      check(huge),
      check(join(directory, 'none.conf'), '--json'),
    ]);
    assert.equal(text.code, 0, text.stderr);
    assert.ok(text.stdout.startsWith(`interface ${ALICE}  10.0.0.7/24, fd00::7/64, 10.9.0.7/32  port 7\n`));
    assert.match(text.stdout, /10\.0\.0\.2\/32 {2}relay-1\.example\.org:443\n$/);
    assert.match(text.stdout, /\[2001:db8::1\]:51820 {2}keepalive 25 s {2}preshared key\n/);
    const { file: named, ...network } = JSON.parse(json.stdout);
    assert.equal(named, file);
    assert.deepEqual(network, JSON.parse(JSON.stringify(parseNetwork(GOOD, file))));
    assert.deepEqual([refused.code, tooLarge.code, missing.code], [2, 2, 3]);
    assert.match(refused.stderr, /evil\.conf:6: PostUp runs a command as root/);
    assert.match(tooLarge.stderr, /larger than 1 MiB/);
    assert.equal(JSON.parse(missing.stdout).error.code, 'NOT_FOUND');
    for (const { stdout, stderr } of [text, json, refused]) assert.ok(!(stdout + stderr).includes(ALICE_SECRET));
    assert.deepEqual((await readdir(directory)).sort(), ['evil.conf', 'huge.conf', 'wg0.conf']);
  });
});
