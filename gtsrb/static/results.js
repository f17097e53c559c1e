// The answers as files: CSV with the columns of `gtsrb predict`, JSON as the API's list.
const NOT_ASKED = { error: { code: "not_asked", message: "not asked" } };

function cell(value) {
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : `${value}`;   // a spreadsheet would run it
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(rows) {
  const known = rows.some(({ answer }) => answer?.known !== undefined);   // a column only where the server says it
  const lines = rows.map(({ name, answer = NOT_ASKED }) =>
    [name, answer.class ?? "", answer.name ?? "", answer.confidence ?? "", answer.error?.code ?? "", ...known ? [answer.known ?? ""] : []]);
  return [["path", "class", "name", "confidence", "error", ...known ? ["known"] : []], ...lines].map(line => line.map(cell).join(",") + "\r\n").join("");
}

export const json = rows => JSON.stringify(rows.map(({ name, answer = NOT_ASKED }, index) => {
  const place = { index, filename: name };               // in the whole list, where the API counts within a request
  return { ...place, ...answer, ...place };
}), null, 1) + "\n";

export function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
