/** An answer that is a problem. */
export class Refused extends Error {
  constructor(status, code, title, next, detail = "") {
    super(title);
    this.body = { type: "about:blank", status, code, title, detail, next };
  }
}
