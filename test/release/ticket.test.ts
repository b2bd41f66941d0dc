import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { access, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { promisify } from 'node:util';
import { newSigningKey } from '../../src/disk/key-file.ts';
import { checkRelease, type Release } from '../../src/release/release.ts';
import { signTicket, TicketInvalid, ticketPublicKey, ticketText, verifyTicket } from '../../src/release/ticket.ts';
import { artifact } from '../fakes/release-fleet.ts';

const run = promisify(execFile);
const SIGNIFY = '/usr/bin/signify-openbsd';
const installed = await access(SIGNIFY).then(
  () => true,
  () => false,
);

const key = newSigningKey();
const publicKey = ticketPublicKey(createPublicKey(key));

function release(): Release {
  const boot = { kernel: artifact('a kernel'), initramfs: artifact('an initramfs'), rootfs: artifact('a rootfs') };
  const arch = { x86_64: { ...boot, cmdline: 'quiet' } };
  return checkRelease({ format: 1, channel: 'production', version: 3, issued: '2026-11-21T00:00:00Z', arch });
}

describe('a ticket', () => {
  it('says what the guest needs, one fact per line', () => {
    const { kernel, initramfs, rootfs } = release().arch.x86_64;
    assert.equal(
      ticketText('demo', release()),
      `bootmesh-ticket 1
fleet demo
channel production
version 3
issued 2026-11-21T00:00:00Z
kernel ${kernel?.cid} ${kernel?.size} ${kernel?.sha256}
initramfs ${initramfs?.cid} ${initramfs?.size} ${initramfs?.sha256}
rootfs ${rootfs?.cid} ${rootfs?.size} ${rootfs?.sha256} ${rootfs?.pieces} 4194304
`,
    );
  });

  it('is verified by its key alone, to the last byte', () => {
    const text = ticketText('demo', release());
    const signature = signTicket(text, key);
    verifyTicket(text, signature, publicKey);
    const other = newSigningKey();
    const wrong: [string, string, string][] = [
      [text.replace('version 3', 'version 4'), signature, publicKey],
      [text.trimEnd(), signature, publicKey],
      [text, signTicket(text, other), publicKey],
      [text, signature, ticketPublicKey(createPublicKey(other))],
      [text, signature.replace('\n', '\n\n'), publicKey],
      [text, signature.slice(0, -9), publicKey],
      [text, '', publicKey],
    ];
    for (const each of wrong) assert.throws(() => verifyTicket(...each), TicketInvalid);
  });

  it('is accepted by signify-openbsd, and a changed one is not', async (t) => {
    if (!installed) return t.skip(`${SIGNIFY} is not installed (Debian package signify-openbsd)`);
    const directory = await mkdtemp(join(tmpdir(), 'bm-ticket-'));
    try {
      const text = ticketText('demo', release());
      const file = (name: string) => join(directory, name);
      await writeFile(file('fleet.pub'), publicKey);
      await writeFile(file('ticket'), text);
      await writeFile(file('ticket.sig'), signTicket(text, key));
      const check = () => run(SIGNIFY, ['-V', '-p', file('fleet.pub'), '-x', file('ticket.sig'), '-m', file('ticket')]);
      assert.match((await check()).stdout, /Signature Verified/);
      await writeFile(file('ticket'), text.replace('production', 'testing'));
      await assert.rejects(check(), /signature verification failed/);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });

  it('made by signify-openbsd is accepted here', async (t) => {
    if (!installed) return t.skip(`${SIGNIFY} is not installed (Debian package signify-openbsd)`);
    const directory = await mkdtemp(join(tmpdir(), 'bm-ticket-'));
    try {
      const file = (name: string) => join(directory, name);
      await run(SIGNIFY, ['-G', '-n', '-p', file('fleet.pub'), '-s', file('fleet.sec')]);
      await writeFile(file('ticket'), ticketText('demo', release()));
      await run(SIGNIFY, ['-S', '-s', file('fleet.sec'), '-x', file('ticket.sig'), '-m', file('ticket')]);
      const [signature, theirKey] = await Promise.all([
        readFile(file('ticket.sig'), 'utf8'),
        readFile(file('fleet.pub'), 'utf8'),
      ]);
      verifyTicket(ticketText('demo', release()), signature, theirKey);
      assert.throws(() => verifyTicket('bootmesh-ticket 1\n', signature, theirKey), TicketInvalid);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
