/** A session lives three minutes without a new handshake (WireGuard white paper, section 6.1: Reject-After-Time). Seconds. */
const SESSION_S = 180;

/**
 * A packet of the peer was authenticated lately: the way to it is open.
 * @param time seconds since 1970
 */
export function isAlive(
  peer: { readonly handshakeAt?: number | undefined } | undefined,
  time: number = Date.now() / 1000,
): boolean {
  return peer?.handshakeAt !== undefined && time - peer.handshakeAt < SESSION_S;
}
