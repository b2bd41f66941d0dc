import { applyRules, natRules } from './firewall.ts';
import { connect, createNamespace, Namespace } from './namespace.ts';
import { advertiseRouters } from './router-advertisement.ts';
import { shape } from './shaping.ts';
import { BRIDGE, type PlannedEnd, type Topology } from './topology.ts';

/**
 * Makes all namespaces, cables, rates, taps, routes, NATs and router advertisements of a plan, in that order. When it rejects, what was made so
 * far is still there: the caller removes the namespaces of the plan, whether they came to be or not.
 */
export async function buildNetwork(topology: Topology, { signal }: { readonly signal: AbortSignal }): Promise<void> {
  for (const { name, bridge, router } of topology.namespaces) {
    signal.throwIfAborted();
    const namespace = await createNamespace(name);
    if (router) await namespace.sysctl('net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
    if (!bridge) continue;
    // A switch has no addresses, so that the counters of its ports hold no chatter of its own.
    await namespace.sysctl('net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1');
    await namespace.addBridge(BRIDGE);
  }
  for (const [a, b] of topology.cables) {
    signal.throwIfAborted();
    await connect(real(a), real(b));
    for (const { namespace, interface: name, rate } of [a, b]) {
      if (rate !== undefined) await shape(new Namespace(namespace), name, rate);
    }
  }
  for (const { namespace, tap, rate } of Object.values(topology.machines)) {
    signal.throwIfAborted();
    await new Namespace(namespace).addTap(tap, BRIDGE);
    if (rate !== undefined) await shape(new Namespace(namespace), tap, rate);
  }
  for (const { namespace, to, via } of topology.routes) {
    signal.throwIfAborted();
    await new Namespace(namespace).addRoute(to, via);
  }
  for (const { namespace, interface: wan, ports } of topology.nats) {
    signal.throwIfAborted();
    await applyRules(new Namespace(namespace), natRules(wan, ports));
  }
  advertiseRouters(topology.solicited);
}

function real(end: PlannedEnd) {
  return { ...end, namespace: new Namespace(end.namespace) };
}
