// The trigger of the demo's chat room: bad words become stars.

const bad = /\b(darn(ed)?|heck)\b/gi;

export function message({ payload }) {
  if (typeof payload?.text !== "string") return;
  return { ...payload, text: payload.text.replace(bad, (word) => "*".repeat(word.length)) };
}
