import { createHash } from 'node:crypto';

/** Of a fleet: 16 bytes, from its root. */
export const FLEET_ID_BYTES = 16;

/**
 * A member's address in the overlay, which nobody hands out: `fd`, 40 bits of the fleet's id, 16 bits of its site's
 * number, 64 bits of its peer id (a unique local address, RFC 4193; the 40 bits are its Global ID). In RFC 5952's
 * spelling.
 * @param siteNumber as the fleet's trust list gives it, 0 to 65535
 */
export function overlayAddress(fleetId: Uint8Array, siteNumber: number, peerId: string): string {
  return spell([...siteGroups(fleetId, siteNumber), ...groups(sha256(peerId).subarray(0, 8))]);
}

/** The /64 of a site's members. */
export function siteNetwork(fleetId: Uint8Array, siteNumber: number): string {
  return `${spell([...siteGroups(fleetId, siteNumber), 0, 0, 0, 0])}/64`;
}

/** The /48 of all sites. */
export function fleetNetwork(fleetId: Uint8Array): string {
  const [a = 0, b = 0, c = 0] = siteGroups(fleetId, 0);
  return `${spell([a, b, c, 0, 0, 0, 0, 0])}/48`;
}

function siteGroups(fleetId: Uint8Array, siteNumber: number): number[] {
  if (fleetId.length !== FLEET_ID_BYTES) throw new RangeError(`a fleet id has ${FLEET_ID_BYTES} bytes`);
  if (!Number.isInteger(siteNumber) || siteNumber < 0 || siteNumber > 0xffff) {
    throw new RangeError(`${siteNumber} is no site's number: they are 0 to 65535`);
  }
  return [...groups(Buffer.concat([Buffer.of(0xfd), sha256(fleetId).subarray(0, 5)])), siteNumber];
}

function groups(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length / 2 }, (_, n) => bytes.readUInt16BE(2 * n));
}

function spell(all: readonly number[]): string {
  return new URL(`http://[${all.map((group) => group.toString(16)).join(':')}]`).hostname.slice(1, -1);
}

function sha256(of: string | Uint8Array): Buffer {
  return createHash('sha256').update(of).digest();
}
