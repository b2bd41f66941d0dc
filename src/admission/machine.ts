import { readdir, readFile } from 'node:fs/promises';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { MACHINE } from '../fleet/trust-list.ts';
import { MAX_MACHINE_IDS } from './protocol.ts';

const DMI = '/sys/class/dmi/id';
const NO_MAC = '00:00:00:00:00:00';
/** What boards say that were never given a number. */
const NO_SERIAL = /^(?:none|n\/a|not specified|default string|to be filled by o\.e\.m\.|system serial number|0+)$/;

/**
 * What this machine is known by before it has keys, and after it has lost them: the hardware addresses of its cards, the
 * board's serial number and UUID (both for root only). In the spelling of the fleet's allow-list.
 */
export async function machineIds(): Promise<string[]> {
  const cards = Object.values(networkInterfaces())
    .flatMap((each) => each ?? [])
    .filter(({ internal, mac }) => !internal && mac !== NO_MAC)
    .map(({ mac }) => `mac:${mac.toLowerCase()}`);
  const ids = [...new Set(cards), ...(await boardIds())];
  return ids.filter((id) => MACHINE.test(id)).slice(0, MAX_MACHINE_IDS);
}

async function boardIds(): Promise<string[]> {
  const present = new Set(await readdir(DMI).catch(() => []));
  const files = [
    ['serial', 'product_serial'],
    ['uuid', 'product_uuid'],
  ] as const;
  const read = files.map(async ([kind, file]) => {
    const text = present.has(file) ? await readFile(join(DMI, file), 'utf8').catch(() => '') : '';
    const value = text.trim().toLowerCase();
    return value === '' || NO_SERIAL.test(value) ? [] : [`${kind}:${value}`];
  });
  return (await Promise.all(read)).flat();
}
