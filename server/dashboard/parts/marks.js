// What happened to a job, as marks on its charts.
const WORDS = { resumed: "resumed", paused: "paused", cancelled: "cancelled", failed: "failed" };

function word(event) {
  if (event.type === "queued" && event.data.stop_reason) return event.data.stop_reason.replaceAll("_", " ");
  return WORDS[event.type];
}

/** Marks { x, label }; checkpoints, of which there are many, are short ones without a word. */
export function marksOf(events, { checkpoints = true } = {}) {
  return events.flatMap((event) => {
    const label = event.type === "checkpoint" && checkpoints ? "" : word(event);
    return label === undefined || !Number.isFinite(event.data.epoch) ? [] : [{ x: event.data.epoch, label }];
  });
}
