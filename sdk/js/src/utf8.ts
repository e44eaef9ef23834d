/**
 * Text as UTF-8 bytes and back. StarlingMonkey has what browsers have for it, QuickJS has not; but what it
 * has, for URLs and for Base64, is written in C and does the same. A loop over the characters takes the
 * interpreter several times as long.
 */

/** What the engines have beside the language as TypeScript knows it. */
declare const globalThis: {
  TextEncoder?: new () => { encode(text: string): Uint8Array };
  TextDecoder?: new () => { decode(bytes: Uint8Array): string };
  btoa(latin1: string): string;
  atob(base64: string): string;
  Uint8Array: { fromBase64(base64: string): Uint8Array };
};

/** The bytes of a text. Half a character (a lone surrogate) becomes U+FFFD. */
export function encode(text: string): Uint8Array {
  if (globalThis.TextEncoder) return new globalThis.TextEncoder().encode(text);
  // `unescape` turns each `%E8` into the character U+00E8, and `btoa` takes each character for a byte.
  return globalThis.Uint8Array.fromBase64(globalThis.btoa(unescape(encodeURIComponent(wellFormed(text)))));
}

/** The text of bytes, without the mark that it may begin with. What is no UTF-8 becomes U+FFFD. */
export function decode(bytes: Uint8Array): string {
  if (globalThis.TextDecoder) return new globalThis.TextDecoder().decode(bytes);
  const latin1 = globalThis.atob((bytes as Uint8Array & { toBase64(): string }).toBase64());
  let text: string;
  try {
    text = fromLatin1(latin1);
  } catch {
    text = latin1.replace(CHARACTERS_OR_NOT, (bytes, characters) => (characters ? fromLatin1(bytes) : '\ufffd'));
  }
  return text.startsWith('\ufeff') ? text.slice(1) : text;
}

const wellFormed = (text: string) => (text as string & { toWellFormed(): string }).toWellFormed();

/** Throws where they are no UTF-8. */
const fromLatin1 = (bytes: string) => decodeURIComponent(escape(bytes));

/**
 * Some well-formed characters, or the beginning of one that does not go on (Unicode 17, table 3-7), as far
 * as it goes. Not more than some, because the engine remembers each to come back to it.
 */
const CHARACTERS_OR_NOT = new RegExp(
  [
    String.raw`((?:[\x00-\x7f]|[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}`,
    String.raw`\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}`,
    String.raw`\xf4[\x80-\x8f][\x80-\xbf]{2}){1,1000})`,
    String.raw`\xe0[\xa0-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]|\xed[\x80-\x9f]`,
    String.raw`\xf0[\x90-\xbf][\x80-\xbf]?|[\xf1-\xf3][\x80-\xbf]{1,2}|\xf4[\x80-\x8f][\x80-\xbf]?`,
    String.raw`[\x80-\xff]`,
  ].join('|'),
  'g',
);
