/** What the agents of a run count together. */
export class Tally {
  /** Agents that have had the whole payload. */
  finished = 0;
  /** Chunks that came and were kept, that came although they were there, and that were refused for their bytes. */
  stored = 0;
  duplicates = 0;
  refused = 0;
  bans = 0;
}
