// Formats numbers and times for people.

const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
const second = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });

export const count = (n) => whole.format(n);
export const credits = (n) => tenths.format(n);
export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
export const rate = (n) => (n >= 100 || Number.isInteger(n) ? whole.format(Math.round(n)) : tenths.format(n));

/** 24 Nov, 08:15; today only the time, with its seconds. */
export function when(iso) {
  const date = new Date(iso);
  return date.toDateString() === new Date().toDateString() ? second.format(date) : moment.format(date);
}

export function duration(ms) {
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}
