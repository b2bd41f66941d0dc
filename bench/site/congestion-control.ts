import { readFile, writeFile } from 'node:fs/promises';

const ALLOWED = '/proc/sys/net/ipv4/tcp_allowed_congestion_control';
const AVAILABLE = '/proc/sys/net/ipv4/tcp_available_congestion_control';

/**
 * Namespaces may use the congestion control `name` until this is disposed of. A kernel whose own default is another
 * one allows them only what the host's administrator lists (Linux, networking/ip-sysctl: tcp_allowed_congestion_control).
 * Rejects when this kernel does not have it.
 */
export async function allowCongestionControl(name: string): Promise<AsyncDisposable> {
  const available = await wordsIn(AVAILABLE);
  if (!available.includes(name)) {
    throw new Error(
      `this kernel has no TCP congestion control "${name}", only ${available.join(', ')}: load tcp_${name}`,
    );
  }
  const before = await wordsIn(ALLOWED);
  if (before.includes(name)) return { [Symbol.asyncDispose]: async () => {} };
  await writeFile(ALLOWED, [...before, name].join(' '));
  return { [Symbol.asyncDispose]: () => writeFile(ALLOWED, before.join(' ')) };
}

async function wordsIn(path: string): Promise<string[]> {
  return (await readFile(path, 'utf8')).split(/\s+/).filter(Boolean);
}
