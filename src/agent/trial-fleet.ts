import { join } from 'node:path';
import type { FleetDescription, FleetNode } from '../fleet/description.ts';
import { defaultAgentConfig, type LabNode } from '../lab/lab-node.ts';
import { createFleetKeys, FleetKeysUnusable, openFleetKeys } from '../release/fleet-keys.ts';

/** A described fleet that can publish: what a lab is brought up with. */
export interface TrialFleet {
  readonly description: FleetDescription;
  /** Directory of its keys; undefined where the description has a trust root of its own, or the lab makes them. */
  readonly keys: string | undefined;
  /** The configuration of a node's agent: the one that is to hold the keys gets them, or else the origins. */
  agentConfig(node: LabNode, description: FleetDescription): object;
}

/**
 * Makes keys in `directory`, or takes those of an earlier trial, for a fleet whose description names no trust root
 * and wants no certificates: with those come keys that the lab makes. Rejects with `FleetKeysUnusable`.
 */
export async function trialFleet(description: FleetDescription, directory: string): Promise<TrialFleet> {
  if (description.trust !== undefined || description.overlay === true) {
    return { description, keys: undefined, agentConfig: defaultAgentConfig };
  }
  const held = Object.values(description.nodes).some(({ keys }) => keys === true);
  const holds = (node: FleetNode | undefined) => (held ? node?.keys === true : node?.roles.includes('origin') === true);
  await ensureKeys(directory, description);
  const trust = { root: join(directory, 'root.json') };
  return {
    description: { ...description, trust },
    keys: directory,
    agentConfig: (node, concrete) => ({
      ...defaultAgentConfig(node, concrete),
      ...(holds(concrete.nodes[node.name]) && { keys: directory }),
    }),
  };
}

async function ensureKeys(directory: string, { fleet, channels }: FleetDescription): Promise<void> {
  try {
    await openFleetKeys(directory);
  } catch (error) {
    if (!(error instanceof FleetKeysUnusable && error.reason === 'missing')) throw error;
    await createFleetKeys(directory, { fleet, channels });
  }
}
