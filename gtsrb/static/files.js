// Files from the picker, a drop (folders too) or the clipboard: [{ file, name }], the name with its folder.
const PICTURE = /\.(ppm|pgm|png|jpe?g|bmp|webp)$/i;      // in a folder, nothing else is tried

export const named = files => [...files].map(file => ({ file, name: file.name || "pasted" }));

export const ofFolder = files => [...files].map(file => ({ file, name: file.webkitRelativePath || file.name })).filter(f => PICTURE.test(f.name));

export async function readable(file) {                   // one that was moved or changed fails like a lost connection when it is sent
  try { await file.slice(0, 1).arrayBuffer(); return true; } catch { return false; }
}

export async function allReadable(files) { return (await Promise.all(files.map(readable))).every(Boolean); }

async function entriesOf(folder) {
  const reader = folder.createReader(), found = [];
  for (;;) {                                             // a reader gives at most 100 at a time
    const some = await new Promise((ok, no) => reader.readEntries(ok, no));
    if (!some.length) return found;
    found.push(...some);
  }
}

async function filesOf(entry, path = "") {
  if (entry.isFile) return [{ file: await new Promise((ok, no) => entry.file(ok, no)), name: path + entry.name }];
  const inside = [];
  for (const e of await entriesOf(entry)) if (e.isDirectory || PICTURE.test(e.name)) inside.push(...await filesOf(e, `${path}${entry.name}/`));
  return inside;
}

export async function dropped(transfer) {
  const plain = named(transfer.files);                   // both lists are empty once the event is over
  const entries = [...transfer.items].map(item => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(e => e.isDirectory)) return plain;
  return (await Promise.all(entries.map(e => filesOf(e).catch(() => [])))).flat();
}
