// What a page shows of the API: asked for, asked for again, and what went wrong.
import { useCallback, useEffect, useRef, useState } from "./html.js";

/**
 * What `ask(signal)` answers, again whenever one of `wanted` changes.
 *
 * Returns { data, error, again, patch }: what was there stays while it is asked for again.
 * patch(change) changes what is there by now, not what was there when it was drawn.
 */
export function useLoaded(ask, wanted) {
  const [seen, setSeen] = useState({ data: null, error: null });
  const asking = useRef(null);
  const again = useCallback(async () => {
    asking.current?.abort();
    const quit = (asking.current = new AbortController());
    try {
      const data = await ask(quit.signal);
      if (!quit.signal.aborted) setSeen({ data, error: null });
    } catch (error) {
      if (!quit.signal.aborted) setSeen((before) => ({ ...before, error }));
    }
  }, wanted);
  useEffect(() => {
    again();
    return () => asking.current?.abort();
  }, wanted);
  const patch = (change) => setSeen((before) => (before.data === null ? before : { ...before, data: change(before.data) }));
  return { ...seen, again, patch };
}

/** A function that does its work once those who call it are quiet, or `most` ms after the first. */
export function useQuietly(work, quiet = 300, most = 2000) {
  const waiting = useRef({ timer: null, since: 0 });
  const newest = useRef(work);
  newest.current = work;
  useEffect(() => () => clearTimeout(waiting.current.timer), []);
  return useCallback((...given) => {
    const now = Date.now();
    const state = waiting.current;
    if (!state.timer) state.since = now;
    clearTimeout(state.timer);
    state.timer = setTimeout(() => {
      state.timer = null;
      newest.current(...given);
    }, Math.max(0, Math.min(quiet, state.since + most - now)));
  }, []);
}
