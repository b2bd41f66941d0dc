import { basename } from 'node:path';

/** Modules of a kernel and what each needs, from its modules.dep. */
export interface ModuleTable {
  /** Name (with underscores, no suffix) to path below the modules directory. */
  readonly paths: ReadonlyMap<string, string>;
  /** Path to the paths it needs directly or indirectly, in modules.dep's own order. */
  readonly needs: ReadonlyMap<string, readonly string[]>;
  /** Names that are part of the kernel image itself. */
  readonly builtin: ReadonlySet<string>;
}

/** A module that was asked for by name exists neither as a file nor in the kernel image. */
export class ModuleError extends Error {
  override readonly name = 'ModuleError';
  readonly code = 'MODULE_MISSING';
  readonly modules: readonly string[];
  constructor(modules: readonly string[], where: string) {
    super(`kernel modules not found in ${where}: ${modules.join(', ')}`);
    this.modules = modules;
  }
}

/** Reads modules.dep ("path: path path …", one line per module) and modules.builtin (one path per line). */
export function readModuleTable(modulesDep: string, modulesBuiltin: string): ModuleTable {
  const paths = new Map<string, string>();
  const needs = new Map<string, readonly string[]>();
  for (const line of modulesDep.split('\n')) {
    const colon = line.indexOf(':');
    if (colon <= 0) continue;
    const path = line.slice(0, colon).trim();
    paths.set(moduleName(path), path);
    needs.set(
      path,
      line
        .slice(colon + 1)
        .split(/\s+/)
        .filter((word) => word !== ''),
    );
  }
  const builtin = modulesBuiltin.split('\n').map((line) => moduleName(line.trim()));
  return { paths, needs, builtin: new Set(builtin.filter((name) => name !== '')) };
}

/**
 * The paths of the named modules and of all they need, each once and after everything it needs, so that inserting
 * them in this order works. Built-in ones give nothing.
 * @returns `missing`: names that this kernel has in no form.
 */
export function resolveModules(
  table: ModuleTable,
  names: readonly string[],
): { load: readonly string[]; missing: readonly string[] } {
  const load = new Set<string>();
  const visiting = new Set<string>();
  const missing: string[] = [];
  const visit = (path: string): void => {
    if (load.has(path) || visiting.has(path)) return;
    visiting.add(path);
    for (const need of table.needs.get(path) ?? []) visit(need);
    load.add(path);
  };
  for (const name of names.map(moduleName)) {
    const path = table.paths.get(name);
    if (path !== undefined) visit(path);
    else if (!table.builtin.has(name)) missing.push(name);
  }
  return { load: [...load], missing };
}

/** `kernel/drivers/net/virtio-net.ko.xz` and `virtio-net` are both `virtio_net` to the kernel. */
export function moduleName(path: string): string {
  return basename(path)
    .replace(/\.ko(\.(gz|xz|zst))?$/, '')
    .replaceAll('-', '_');
}
