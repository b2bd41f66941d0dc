import pino from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent';
type LogFields = Readonly<Record<string, unknown>>;

/** A room's voice: one constant lowercase sentence, and the facts as fields. */
export interface Log {
  debug(sentence: string, fields?: LogFields): void;
  info(sentence: string, fields?: LogFields): void;
  warn(sentence: string, fields?: LogFields): void;
  error(sentence: string, fields?: LogFields): void;
  /** The same log with `fields` on every line, e.g. `log.with({ room: 'swarm' })`. */
  with(fields: LogFields): Log;
}

export interface LogOptions {
  /** Lines below this level are dropped. @default 'info' */
  readonly level?: LogLevel | undefined;
  /** A file to append JSON lines to; standard error when absent. */
  readonly file?: string | undefined;
}

/** One JSON object per line: `{"level":"info","time":"…","room":"swarm","msg":"peer banned", …}`. */
export function createLog(options: LogOptions = {}): Log {
  return wrap(
    pino(
      {
        level: options.level ?? 'info',
        base: null,
        timestamp: pino.stdTimeFunctions.isoTime,
        formatters: { level: (label) => ({ level: label }) },
        serializers: { error: pino.stdSerializers.err },
      },
      pino.destination({ dest: options.file ?? 2, sync: true, mkdir: true }),
    ),
  );
}

export const silentLog: Log = wrap(pino({ level: 'silent' }));

function wrap(line: pino.Logger): Log {
  return {
    debug: (sentence, fields = {}) => line.debug(fields, sentence),
    info: (sentence, fields = {}) => line.info(fields, sentence),
    warn: (sentence, fields = {}) => line.warn(fields, sentence),
    error: (sentence, fields = {}) => line.error(fields, sentence),
    with: (fields) => wrap(line.child(fields)),
  };
}
