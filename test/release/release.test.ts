import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  artifactsOf,
  channelName,
  MAX_RELEASE_BYTES,
  parseRelease,
  ReleaseInvalid,
} from '../../src/release/release.ts';
import { artifact } from '../fakes/release-fleet.ts';

type Plain = Record<string, unknown>;

function plain(change: (release: Plain, boot: Plain) => void = () => undefined): Buffer {
  const boot: Plain = {
    kernel: artifact('kernel'),
    initramfs: artifact('initramfs'),
    rootfs: artifact('rootfs'),
    cmdline: '',
  };
  const release: Plain = { format: 1, channel: 'production', version: 1, issued: '2026-11-21T00:00:00Z' };
  change(release, boot);
  return Buffer.from(JSON.stringify({ arch: { x86_64: boot }, ...release }));
}

describe('a release', () => {
  it('names its artifacts in the order in which a machine needs them', () => {
    const release = parseRelease(plain());
    assert.deepEqual(
      artifactsOf(release).map(([role]) => role),
      ['kernel', 'initramfs', 'rootfs'],
    );
  });

  it('may be a rootfs alone', () => {
    const release = parseRelease(
      plain((_, boot) => {
        delete boot['kernel'];
        delete boot['initramfs'];
      }),
    );
    assert.equal(artifactsOf(release).length, 1);
  });

  const faults: Record<string, (release: Plain, boot: Plain) => void> = {
    'a field nobody knows': (release) => Object.assign(release, { extra: 1 }),
    'another format': (release) => Object.assign(release, { format: 2 }),
    'a version below one': (release) => Object.assign(release, { version: 0 }),
    'half a version': (release) => Object.assign(release, { version: 1.5 }),
    'a day that is none': (release) => Object.assign(release, { issued: '2026-13-41T00:00:00Z' }),
    'a channel that climbs': (release) => Object.assign(release, { channel: '../etc' }),
    'a channel that is a role': (release) => Object.assign(release, { channel: 'snapshot' }),
    'two lines of command line': (_, boot) => Object.assign(boot, { cmdline: 'quiet\nshell' }),
    'a command line too long': (_, boot) => Object.assign(boot, { cmdline: 'x'.repeat(2049) }),
    'an artifact with a path': (_, boot) =>
      Object.assign(boot, { kernel: { ...artifact('kernel'), name: '../kernel' } }),
    'an artifact of no size': (_, boot) => Object.assign(boot, { kernel: { ...artifact('kernel'), size: 0 } }),
    'a sha256 in capitals': (_, boot) =>
      Object.assign(boot, { kernel: { ...artifact('kernel'), sha256: 'A'.repeat(64) } }),
    'a CID that is none': (_, boot) => Object.assign(boot, { kernel: { ...artifact('kernel'), cid: 'bafkreigh' } }),
    'an initramfs without a kernel': (_, boot) => delete boot['kernel'],
    'no artifact': (release) => Object.assign(release, { arch: { x86_64: { cmdline: '' } } }),
    'another architecture': (release) => Object.assign(release, { arch: { z80: {} } }),
  };
  for (const [name, change] of Object.entries(faults)) {
    it(`with ${name} is refused`, () => assert.throws(() => parseRelease(plain(change)), ReleaseInvalid));
  }

  it('that is garbage, or too long, is refused as such', () => {
    assert.throws(() => parseRelease(Buffer.alloc(MAX_RELEASE_BYTES + 1, 0x20)), ReleaseInvalid);
    const garbage = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.json().map((text) => Buffer.from(text)),
      fc.record({ at: fc.nat(2000), byte: fc.nat(255) }).map(({ at, byte }) => {
        const bytes = plain();
        bytes[at % bytes.length] = byte;
        return bytes;
      }),
    );
    fc.assert(
      fc.property(garbage, (bytes) => {
        try {
          parseRelease(bytes);
        } catch (error) {
          if (!(error instanceof ReleaseInvalid)) throw error;
        }
      }),
      { numRuns: 3000 },
    );
    const whole = plain();
    for (let n = 0; n < 30_000; n += 1) {
      const bytes = Buffer.from(whole);
      bytes[(n * 7919) % bytes.length] = (n * 31) & 0xff;
      try {
        parseRelease(n % 4 === 0 ? bytes.subarray(0, (n * 104_729) % bytes.length) : bytes);
      } catch (error) {
        if (!(error instanceof ReleaseInvalid)) throw error;
      }
    }
  });
});

describe('the name of a channel', () => {
  it('is none that plain objects have already', () => {
    for (const name of ['constructor', 'valueOf', '__proto__', 'root', 'targets', '', 'a.b', '-a']) {
      assert.equal(channelName.safeParse(name).success, false, name);
    }
    for (const name of ['production', 'testing', 'lab-7', 'x']) assert.ok(channelName.safeParse(name).success, name);
  });
});
