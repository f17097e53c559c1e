// Every text of the page, in English and German.

export const WORDS = {
  en: {
    title: "Which sign is this?",
    lede: "Give me close-up pictures of German traffic signs, one or a thousand. I know 43 kinds.",
    drop: "Drop pictures or folders here, or paste them", give: "Pictures of signs, please", formats: "PPM, PNG, JPEG, BMP, WebP",
    choose: "Choose pictures", chooseFolder: "Choose a folder", photograph: "Take a photo",
    results: "Results", stop: "Stop", tryAgain: "Try again", goOn: "Go on", clear: "Clear", dismiss: "Close",
    saveCsv: "Save CSV", saveJson: "Save JSON", progress: "Pictures answered",
    showOnly: "Show", all: "All", unsure: "Unsure", errors: "Errors",
    order: "Order", newest: "Newest first", leastSure: "Least sure first", bySign: "By sign", byName: "By file name",
    known: "The 43 signs", kept: "Pictures go to this server, are answered, and are not kept.", card: "Model card",
    keyTitle: "This service wants a key", keyLabel: "Key", keyHelp: "Whoever runs the service has it. It is kept until this tab is closed.",
    keyWrong: "That was not the right key.", send: "Send", cancel: "Cancel",
    pending: "Waiting", confidence: "Confidence", yourPicture: name => `Your picture, ${name}`,
    topFive: "Best five", whereLooked: "Where did it look?", looking: "Looking …", of: (what, name) => `${what} ${name}`,
    noSign: "No known sign", atBest: (name, p) => `At best: ${name}, ${p}`,
    mostImportant: places => `Most important: ${places.join(" and ")}.`,
    everywhere: "The whole picture matters about equally.", nowhere: "No single part of the picture matters much.",
    heatLegend: "The brighter the orange, the more the answer hangs on that part.",
    places: ["upper left", "top", "upper right", "left", "middle", "right", "lower left", "bottom", "lower right"],
    pictures: n => `${number(n)} picture${n === 1 ? "" : "s"}`,
    doneOf: (done, all) => `${number(done)} of ${t("pictures", all)}`,
    unsureCount: n => `${number(n)} unsure`, strangeCount: n => `${number(n)} no known sign`, errorCount: n => `${number(n)} without an answer`, leftCount: n => `${number(n)} still waiting`,
    timeLeft: s => s < 60 ? `about ${number(s)} s left` : `about ${number(Math.round(s / 60))} min left`,
    later: s => `the server is busy, next try in ${number(s)} s`, lost: "the server does not answer, trying again",
    stopped: "Stopped.", noPictures: "There are no pictures in there.",
  },
  de: {
    title: "Welches Schild ist das?",
    lede: "Gib mir Nahaufnahmen deutscher Verkehrsschilder, eine oder tausend. Ich kenne 43 Arten.",
    drop: "Bilder oder Ordner hierher ziehen oder einfügen", give: "Bilder von Schildern, bitte", formats: "PPM, PNG, JPEG, BMP, WebP",
    choose: "Bilder auswählen", chooseFolder: "Ordner auswählen", photograph: "Foto aufnehmen",
    results: "Ergebnisse", stop: "Anhalten", tryAgain: "Noch einmal versuchen", goOn: "Weitermachen", clear: "Leeren", dismiss: "Schließen",
    saveCsv: "CSV sichern", saveJson: "JSON sichern", progress: "Beantwortete Bilder",
    showOnly: "Zeigen", all: "Alle", unsure: "Unsichere", errors: "Fehler",
    order: "Reihenfolge", newest: "Neueste zuerst", leastSure: "Unsicherste zuerst", bySign: "Nach Schild", byName: "Nach Dateiname",
    known: "Die 43 Schilder", kept: "Bilder gehen an diesen Server, werden beantwortet und nicht aufbewahrt.", card: "Modellkarte",
    keyTitle: "Dieser Dienst verlangt einen Schlüssel", keyLabel: "Schlüssel", keyHelp: "Wer den Dienst betreibt, hat ihn. Er wird behalten, bis dieser Tab geschlossen wird.",
    keyWrong: "Das war nicht der richtige Schlüssel.", send: "Senden", cancel: "Abbrechen",
    pending: "Wartet", confidence: "Sicherheit", yourPicture: name => `Dein Bild, ${name}`,
    topFive: "Beste fünf", whereLooked: "Worauf geachtet?", looking: "Sieht nach …", of: (what, name) => `${what} ${name}`,
    noSign: "Kein bekanntes Schild", atBest: (name, p) => `Am ehesten: ${name}, ${p}`,
    mostImportant: places => `Am wichtigsten: ${places.join(" und ")}.`,
    everywhere: "Das ganze Bild zählt etwa gleich viel.", nowhere: "Kein einzelner Teil des Bildes zählt viel.",
    heatLegend: "Je heller das Orange, desto mehr hängt die Antwort an dieser Stelle.",
    places: ["oben links", "oben", "oben rechts", "links", "die Mitte", "rechts", "unten links", "unten", "unten rechts"],
    pictures: n => `${number(n)} Bild${n === 1 ? "" : "er"}`,
    doneOf: (done, all) => `${number(done)} von ${number(all)} Bildern`,
    unsureCount: n => `${number(n)} unsicher`, strangeCount: n => `${number(n)} kein bekanntes Schild`, errorCount: n => `${number(n)} ohne Antwort`, leftCount: n => `${number(n)} ${n === 1 ? "wartet" : "warten"} noch`,
    timeLeft: s => s < 60 ? `noch etwa ${number(s)} s` : `noch etwa ${number(Math.round(s / 60))} min`,
    later: s => `der Server ist ausgelastet, nächster Versuch in ${number(s)} s`, lost: "der Server antwortet nicht, neuer Versuch",
    stopped: "Angehalten.", noPictures: "Darin sind keine Bilder.",
  },
};

export const ERRORS = {                                      // the API's codes, and the page's own at the end
  en: {
    empty_file: "This file is empty.",
    unsupported_format: "This is not a picture I can read.",
    corrupt_image: "This picture is damaged.",
    truncated_image: "This picture is cut off; perhaps it was not copied completely.",
    file_too_large: "This file is too large.",
    too_many_pixels: "This picture has too many pixels; a smaller copy will do.",
    body_too_large: "This file is too large for the server.",
    too_many_files: "The server takes fewer files at a time.",
    too_many_fields: "The server did not understand what was sent.",
    names_too_long: "The name of this file is too long.",
    unnamed_file: "This file has no name.",
    no_files: "Nothing reached the server.",
    duplicate_names: "Several files have this name.",
    unknown_field: "The server did not understand what was sent.",
    invalid_parameter: "The server did not understand what was asked.",
    too_many_pictures: "Only one picture at a time can be looked into.",
    malformed_body: "The server did not understand what was sent.",
    disconnected: "The connection broke off.",
    upload_too_slow: "The picture reached the server too slowly.",
    unauthorized: "Nothing goes on without the service's key.",
    busy: "The server has too much to do.",
    not_ready: "The server is not ready yet.",
    answer_too_slow: "The answer took too long.",
    internal_error: "The server made a mistake.",
    not_found: "The server does not know this question.",
    method_not_allowed: "The server does not know this question.",
    http_error: "The server gave an answer that makes no sense.",
    no_connection: "The server cannot be reached.",
    unreadable_file: "This file can no longer be read; perhaps it was moved or changed.",
    not_asked: "Not asked.",
  },
  de: {
    empty_file: "Diese Datei ist leer.",
    unsupported_format: "Das ist kein Bild, das ich lesen kann.",
    corrupt_image: "Dieses Bild ist beschädigt.",
    truncated_image: "Dieses Bild ist abgeschnitten; vielleicht wurde es nicht ganz kopiert.",
    file_too_large: "Diese Datei ist zu groß.",
    too_many_pixels: "Dieses Bild hat zu viele Pixel; eine kleinere Kopie genügt.",
    body_too_large: "Diese Datei ist zu groß für den Server.",
    too_many_files: "Der Server nimmt weniger Dateien auf einmal.",
    too_many_fields: "Der Server hat nicht verstanden, was gesendet wurde.",
    names_too_long: "Der Name dieser Datei ist zu lang.",
    unnamed_file: "Diese Datei hat keinen Namen.",
    no_files: "Beim Server ist nichts angekommen.",
    duplicate_names: "Mehrere Dateien heißen so.",
    unknown_field: "Der Server hat nicht verstanden, was gesendet wurde.",
    invalid_parameter: "Der Server hat nicht verstanden, was gefragt wurde.",
    too_many_pictures: "Es kann nur ein Bild auf einmal genauer angesehen werden.",
    malformed_body: "Der Server hat nicht verstanden, was gesendet wurde.",
    disconnected: "Die Verbindung ist abgebrochen.",
    upload_too_slow: "Das Bild kam zu langsam beim Server an.",
    unauthorized: "Ohne den Schlüssel des Dienstes geht es nicht weiter.",
    busy: "Der Server hat zu viel zu tun.",
    not_ready: "Der Server ist noch nicht bereit.",
    answer_too_slow: "Die Antwort hat zu lange gedauert.",
    internal_error: "Der Server hat einen Fehler gemacht.",
    not_found: "Der Server kennt diese Frage nicht.",
    method_not_allowed: "Der Server kennt diese Frage nicht.",
    http_error: "Der Server hat etwas Unverständliches geantwortet.",
    no_connection: "Der Server ist nicht zu erreichen.",
    unreadable_file: "Diese Datei lässt sich nicht mehr lesen; vielleicht wurde sie verschoben oder geändert.",
    not_asked: "Nicht gefragt.",
  },
};

const MEMORY = "gtsrb.language";

function remembered() {
  try { return localStorage.getItem(MEMORY); } catch { return null; }   // storage may be forbidden
}

export let language = WORDS[remembered()] ? remembered() : /^de\b/i.test(navigator.language) ? "de" : "en";

export function speak(wanted) {
  language = wanted;
  try { localStorage.setItem(MEMORY, wanted); } catch { /* for this visit only */ }
}

export function t(key, ...values) {
  const words = WORDS[language][key];
  return typeof words === "function" ? words(...values) : words;
}

export const problem = code => ERRORS[language][code] ?? ERRORS[language].http_error;
const format = options => Object.fromEntries(Object.keys(WORDS).map(l => [l, new Intl.NumberFormat(l, options)]));
const numbers = format({}), percents = format({ style: "percent", minimumFractionDigits: 2 });   // the server has cut it to these digits
export const number = n => numbers[language].format(n);
export const percent = p => percents[language].format(p);

export function translate(root) {
  for (const e of root.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
  for (const e of root.querySelectorAll("[data-t-label]")) e.setAttribute("aria-label", t(e.dataset.tLabel));
}
