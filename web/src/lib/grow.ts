import type { Attachment } from "svelte/attachments";

/** Lets a text area grow with its text, up to its `max-height`. */
export function grow(text: () => string): Attachment<HTMLTextAreaElement> {
  return (area) => {
    // Reading the text makes the attachment run again whenever it changes.
    text();
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
  };
}
