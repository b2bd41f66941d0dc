import type { Machine } from '../record/machine.ts';

/** The sentence below a table: of what its figures are medians, when and where they were measured. */
export function measured({ machine, when, rounds }: { machine: Machine; when: string; rounds: number }): string {
  const { cpu, cores, kernel, node } = machine;
  return `Medians of ${rounds}, ${when.slice(0, 10)}: ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}.`;
}
