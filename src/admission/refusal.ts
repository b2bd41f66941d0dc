/**
 * Why a machine is not let in. Pending: it has no token, and an operator is to approve it; it may ask again. Token: it is damaged or not of this door.
 * Machine: it is for another one. Clock: the two clocks disagree too much for a
 * certificate to count. Fleet: the machine has another fleet, or the door is not of the token's.
 */
export const REFUSALS = [
  'token',
  'expired',
  'used',
  'machine',
  'revoked',
  'clock',
  'fleet',
  'proof',
  'unreachable',
  'busy',
  'pending',
  'malformed',
] as const;
export type RefusalReason = (typeof REFUSALS)[number];

/** The message says what is wrong and what to do; it may come from the other side. */
export class AdmissionRefused extends Error {
  readonly code = 'ADMISSION_REFUSED';
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'AdmissionRefused';
    this.reason = reason;
  }
}
