// Counts segments while the user types, by the rules of bulksms/message.py (GSM 03.38, 03.40).

const BASIC = new Set(
  "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?" +
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà",
);
const EXTENSION = new Set("\f^{}\\[~]|€"); // two septets each

/** {encoding, characters (septets or UTF-16 code units), segments, room (characters left in the last segment)}. */
export function countSegments(text) {
  const characters = [...text];
  const gsm = characters.every((character) => BASIC.has(character) || EXTENSION.has(character));
  const widths = characters.map((character) => (gsm ? 1 + EXTENSION.has(character) : character.length));
  const [only, each] = gsm ? [160, 153] : [70, 67];
  return { encoding: gsm ? "GSM-7" : "UCS-2", ...divide(widths, only, each) };
}

/** Fills segments in turn; a character is never split between two. */
function divide(widths, only, each) {
  const characters = widths.reduce((sum, width) => sum + width, 0);
  if (characters <= only) return { characters, segments: characters ? 1 : 0, room: only - characters };
  let [segments, room] = [1, each];
  for (const width of widths) {
    if (width > room) [segments, room] = [segments + 1, each];
    room -= width;
  }
  return { characters, segments, room };
}

/** The text without its placeholders, and their names; `{{` and `}}` stand for braces. */
export function readTemplate(text) {
  const columns = new Set();
  const literal = text.replace(/\{\{|\}\}|\{([^{}]*)\}/g, (token, column) => {
    if (column === undefined) return token[0];
    columns.add(column.trim());
    return "";
  });
  return { literal, columns: [...columns] };
}
