import { peerIdFromString } from '@libp2p/peer-id';
import type { SegmentIdentity } from '../boot/segment-message.ts';
import type { Identity } from '../fleet/identity.ts';

/** The node's key as the boot room signs with it; a member's public key is part of its ed25519 peer id. */
export function segmentIdentity({ peerId, privateKey }: Identity): SegmentIdentity {
  return {
    peerId,
    sign: (bytes) => privateKey.sign(bytes),
    verify: async (peer, bytes, signature) => {
      const { publicKey } = peerIdFromString(peer);
      return publicKey !== undefined && (await publicKey.verify(bytes, signature));
    },
  };
}
