/** The one place where text becomes HTML: the Trusted Types policy `ui`. */

interface Policy {
  /** In browsers with trusted types an object that only prints as a string. */
  createHTML(html: string): string;
}

const factory = (globalThis as { trustedTypes?: { createPolicy(name: string, rules: object): Policy } }).trustedTypes;

const policy: Policy = factory
  ? factory.createPolicy("ui", { createHTML: (html: string) => html })
  : { createHTML: (html) => html };

/** Only for the output of `markdown.ts`, which escapes everything that it did not write itself. */
export function trusted(html: string): string {
  return policy.createHTML(html);
}
