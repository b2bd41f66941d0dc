import type { Artifact } from './artifact.ts';
import type { Work } from './crash.ts';
import { Worker } from './worker.ts';

/** Imports: the process gets the artifact on its standard input. A doomed one never gets the last byte. */
export class ImportWork implements Work {
  readonly name = 'import';
  readonly artifact: Artifact;

  constructor(artifact: Artifact) {
    this.artifact = artifact;
  }

  startDoomed(directory: string, { signal }: { readonly signal: AbortSignal }): Worker {
    return new Worker('importer.ts', directory, [], {
      input: this.artifact.content.subarray(0, -1),
      keepOpen: true,
      signal,
    });
  }

  resume(directory: string, { signal }: { readonly signal: AbortSignal }): Worker {
    return new Worker('importer.ts', directory, [], { input: this.artifact.content, signal });
  }

  /** Nothing: an import reads its file again, and that costs nobody else anything. */
  fetched(): number {
    return 0;
  }
}
