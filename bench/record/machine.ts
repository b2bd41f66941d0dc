import { arch, cpus, release, totalmem } from 'node:os';

/** The machine that a figure was measured on. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memory_bytes: number;
  /** Release of the Linux kernel. */
  readonly kernel: string;
  readonly arch: string;
  /** Version of Node. */
  readonly node: string;
}

export function thisMachine(): Machine {
  const [first] = cpus();
  return {
    cpu: first?.model ?? 'unknown',
    cores: cpus().length,
    memory_bytes: totalmem(),
    kernel: release(),
    arch: arch(),
    node: process.version,
  };
}
