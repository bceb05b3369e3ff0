// The committed description of the API as a judge: what a value has that its schema does not allow.

import { readFile } from "node:fs/promises";

const { components } = JSON.parse(await readFile(new URL("../../docs/openapi.json", import.meta.url), "utf8"));

/** One line per offence; none when the value is as the schema says. */
export function offences(name, value) {
  return look(components.schemas[name], value, name);
}

/** Properties that are not described count as offences, also where the server would allow them. */
function look(schema, value, at) {
  if (schema.$ref) return look(components.schemas[schema.$ref.split("/").at(-1)], value, at);
  if (schema.oneOf) {
    const tries = schema.oneOf.map((one) => look(one, value, at));
    return tries.some((found) => found.length === 0) ? [] : tries.toSorted((a, b) => a.length - b.length)[0];
  }
  if (schema.enum && !schema.enum.includes(value)) return [`${at} is ${JSON.stringify(value)}, allowed are ${schema.enum.join(", ")}`];
  const types = [schema.type ?? []].flat();
  if (types.length > 0 && !types.some((type) => isOf(type, value))) return [`${at} is no ${types.join(" or ")}: ${JSON.stringify(value)}`];
  if (Array.isArray(value)) return value.flatMap((item, index) => look(schema.items ?? {}, item, `${at}[${index}]`));
  if (typeof value !== "object" || value === null || !schema.properties) return [];
  const lacks = (schema.required ?? []).filter((key) => value[key] === undefined).map((key) => `${at} lacks ${key}`);
  return Object.entries(value).reduce((found, [key, inner]) => {
    if (inner === undefined) return found;
    const known = schema.properties[key];
    return [...found, ...(known ? look(known, inner, `${at}.${key}`) : [`${at}.${key} is not described`])];
  }, lacks);
}

function isOf(type, value) {
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  if (type === "integer") return Number.isInteger(value);
  if (type === "object") return typeof value === "object" && value !== null && !Array.isArray(value);
  return typeof value === type;
}

/** Which description a request's body is held against. */
const BODIES = [
  [/^POST \/sessions$/, "CreateSession"],
  [/^POST \/environments$/, "EnvironmentSettings"],
  [/^PUT \/environments\/[^/]+$/, "EditEnvironment"],
  [/^PUT \/environments\/[^/]+\/secrets\//, "SetSecret"],
  [/\/test-setup$/, "TestSetup"],
  [/\/network-test$/, "TestNetwork"],
  [/^POST \/environments\/[^/]+\/archive$/, "ArchiveEnvironment"],
];

/** What is wrong with a request's body; nothing where it has none, or none that is held against anything. */
export function offencesOfRequest(name, body) {
  const schema = BODIES.find(([pattern]) => pattern.test(name))?.[1];
  return schema && body ? offences(schema, body) : [];
}
