import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { buildRootfs, type Rootfs } from '../../../src/image/rootfs.ts';

/** The small rootfs prints this with the hash of the device that it was mounted from. */
export const MARKER = /guest up sha256=([0-9a-f]{64})/;
const INIT = `#!/bin/busybox sh
device=$(busybox awk '$2 == "/run/bootmesh/lower" { print $1 }' /proc/mounts)
echo "guest up sha256=$(busybox sha256sum < $device | busybox cut -c 1-64)"
busybox touch /written && echo "guest can write"
while :; do busybox sleep 60; done
`;

interface SmallRootfsOptions {
  readonly cache: string;
  readonly output: string;
  /** Bytes beside busybox's 2 MB that make the transfer last; they do not repeat. */
  readonly fillerBytes: number;
}

/** A rootfs of busybox, an init that tells what it runs from, and filler. */
export async function buildSmallRootfs(
  { cache, output, fillerBytes }: SmallRootfsOptions,
  { signal }: { signal: AbortSignal },
): Promise<Rootfs> {
  const files = [
    { path: 'usr/bin/busybox', mode: 0o755, data: await readFile('/bin/busybox') },
    { path: 'usr/sbin/init', mode: 0o755, data: INIT },
    { path: 'filler', mode: 0o644, data: noise(fillerBytes) },
  ];
  return await buildRootfs({ cache, packages: [], files, output }, { signal });
}

/** Bytes that do not repeat and are the same in every run. */
export function noise(length: number): Buffer {
  const bytes = Buffer.alloc(Math.ceil(length / 32) * 32);
  for (let at = 0; at < length; at += 32) createHash('sha256').update(String(at)).digest().copy(bytes, at);
  return bytes.subarray(0, length);
}
