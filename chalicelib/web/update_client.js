// The update client of a phone: runs update scripts, keeps variables and configuration.
// The same as local/update_client.py, line for line, and a test holds the two against each other.
// It must not do any I/O: try.js polls, and the hour comes in as an argument.

const CODE = "UPDATE/PROVISIONING-CODE";
const CHECK = "UPDATE/CHECK";
const PROMPT = "prompt";
const FACTORY_BUILD = "130100";
const FINALS_THAT_RESET = new Set(["ireset", "reset"]);
const FINALS_THAT_RESET_IF_NEEDED = new Set(["iresetn", "resetn"]);

/** What a line can do, by a name that a page has its own words for. */
export const EFFECTS = {
  comment: "",
  ran: "has been run: stop",
  new: "new: go on",
  now: "now is the time",
  "not-now": "not now: stop",
  runs: "{build} is running already",
  flashed: "flashed {before} -> {build} (simulated, {url} was not loaded)",
  written: "kept over a restart",
  active: "in force",
  changed: "{module} set anew",
  added: "{module} changed",
  removed: "{option} removed",
  "not-set": "{option} was not set",
  form: "the display asks for the code",
  "kept-as": "kept ({flags})",
  forgotten: "forgotten",
  "not-kept": "was not set",
  kept: "kept",
  fast: "polls fast for {minutes} minutes",
  restarts: "restarts when idle, if that is needed",
  unknown: "not understood",
};

export class UpdateClient {
  variables = new Map();
  pending = new Map();
  written = new Map();
  active = new Map();
  running = { prot: FACTORY_BUILD, boot: FACTORY_BUILD };
  faults = [];
  restartCount = 0;
  #needsReset = false;
  #wantsReset = false;

  /** A phone from the factory: mac `00-90-33-3d-12-34`, product `IP232`, its address, where it polls. */
  constructor(mac, product, localIp, factoryUrl) {
    this.mac = mac;
    this.product = product;
    this.localIp = localIp;
    this.factoryUrl = factoryUrl.includes("?") ? factoryUrl : `${factoryUrl}?mac=#m&type=#t&hwid=#h&localip=#i`;
    for (const configuration of [this.pending, this.written, this.active]) {
      configuration.set("UP1", new Map([["/url", this.factoryUrl]]));
    }
  }

  /** Take up a phone after a power cycle, from what `kept` told; the factory's URL is the deployment's. */
  static started(kept, localIp, factoryUrl) {
    const client = new UpdateClient(kept.mac, kept.product, localIp, factoryUrl);
    client.variables = new Map(kept.variables);
    client.running = kept.running;
    client.written = new Map(kept.written.map(([module, options]) => [module, new Map(options)]));
    client.#reset();
    return client;
  }

  /** Tell what outlives a power cycle, as JSON can carry it. */
  kept() {
    const { mac, product, running } = this;
    const written = [...this.written].map(([module, options]) => [module, [...options]]);
    return { mac, product, running, variables: [...this.variables], written };
  }

  /** Tell whether the display asks for the provisioning code. */
  get showsCodeForm() {
    return this.variables.get(CODE) === PROMPT;
  }

  get hasCode() {
    return this.variables.has(CODE) && !this.showsCodeForm;
  }

  /** The URL in force; the factory's when there is none. */
  get activeUrl() {
    return this.active.get("UP1")?.get("/url") || this.factoryUrl;
  }

  /** The phone has an address with a token of its own. */
  get isOwn() {
    return this.activeUrl.includes("device_token=");
  }

  /** Type a code into the form; `#` confirms and is not part of it. */
  typeCode(code) {
    this.variables.set(CODE, code.endsWith("#") ? code.slice(0, -1) : code);
  }

  /** Fill in the active URL, and append what every poll tells. */
  url() {
    const own = { "#m": this.mac, "#t": this.product, "#h": `${this.product}-30-00-af`, "#i": this.localIp };
    const url = this.activeUrl.replace(/#[mthi]/g, (found) => quoted(own[found]));
    const { prot, boot } = this.running;
    const told = [
      ["ver", `13r1 ${this.product}[${prot}], Bootcode[${boot}]`],
      ["PROT", prot],
      ["BOOT", boot],
      ["CHECK", this.variables.get(CHECK) ?? ""],
    ];
    if (this.variables.has(CODE)) told.push(["PROVISIONING-CODE", this.variables.get(CODE)]);
    const appended = told.map(([name, value]) => `${name}=${quoted(value)}`).join("&");
    return `${url}${url.includes("?") ? "&" : "?"}${appended}`;
  }

  /** Run a script until its end or until a guard stops it, at this local hour (0 to 23); tells the lines
   *  that were reached and what they did: [{line, effect, name, values}], the name one of EFFECTS. */
  execute(script, hour) {
    const steps = [];
    const atTheEnd = [];
    let isStopped = false;
    for (const line of script.split(/\r?\n/)) {
      const words = wordsOf(line);
      if (words.length === 0) continue;
      const { name, values = {}, stops = false } = this.#run(words, hour, atTheEnd);
      steps.push({ line, effect: filled(EFFECTS[name], values), name, values });
      isStopped = stops;
      if (isStopped) break;
    }
    if (!isStopped) for (const finish of atTheEnd) finish();
    if (this.#wantsReset) {
      this.restartCount += 1;
      this.#reset();
    }
    return steps;
  }

  #run(words, hour, atTheEnd) {
    if (words[0].startsWith("#")) return { name: "comment" };
    if (begins(words, "mod", "cmd", "UP1", "check") && words.length === 6) {
      return this.#check(words[4], words[5], atTheEnd);
    }
    if (begins(words, "mod", "cmd", "UP1", "times")) {
      const isNow = this.#isAllowed(words.slice(4), hour);
      return isNow ? { name: "now" } : { name: "not-now", stops: true };
    }
    if (begins(words, "mod", "cmd", "UP0") && ["prot", "boot"].includes(words[3]) && words.length === 7) {
      return this.#load(words[3], words[4], words[5], unquoted(words[6]));
    }
    if (words[0] === "config") return this.#configure(words);
    return this.#keep(words);
  }

  #check(final, serial, atTheEnd) {
    if (this.variables.get(CHECK) === serial) return { name: "ran", stops: true };
    atTheEnd.push(() => {
      this.variables.set(CHECK, serial);
      this.#endWith(final);
    });
    return { name: "new" };
  }

  #isAllowed(options, hour) {
    const given = new Map();
    for (let at = 0; at + 1 < options.length; at += 2) given.set(options[at], options[at + 1]);
    const isFactoryNew = !this.variables.has(CHECK);
    if (!given.has("/allow") || (given.has("/initial") && isFactoryNew)) return true;
    return given.get("/allow").split(",").includes(String(hour));
  }

  #load(kind, url, final, build) {
    const before = this.running[kind];
    if (before === build) return { name: "runs", values: { build } };
    this.running = { ...this.running, [kind]: build };
    this.#needsReset = true;
    this.#endWith(final);
    return { name: "flashed", values: { before, build, url } };
  }

  #configure(words) {
    const [, command, module, ...rest] = words;
    if (command === "write" && words.length === 2) {
      this.written = copied(this.pending);
      return { name: "written" };
    }
    if (command === "activate" && words.length === 2) {
      this.active = copied(this.pending);
      return { name: "active" };
    }
    if (command === "change" && module !== undefined) {
      this.pending.set(module, optionsOf(rest));
      return { name: "changed", values: { module } };
    }
    if (command === "add" && module !== undefined) {
      this.#options(module, optionsOf(rest));
      return { name: "added", values: { module } };
    }
    if (command === "rem" && words.length === 4) {
      const [option] = rest;
      return { name: this.pending.get(module)?.delete(option) ? "removed" : "not-set", values: { option } };
    }
    return this.#notUnderstood(words);
  }

  #keep(words) {
    if (begins(words, "vars", "create") && words.length >= 4) {
      const [, , name, flags, ...value] = words;
      this.variables.set(name, value.join(" "));
      return name === CODE && this.showsCodeForm ? { name: "form" } : { name: "kept-as", values: { flags } };
    }
    if (begins(words, "vars", "del") && words.length === 3) {
      return { name: this.variables.delete(words[2]) ? "forgotten" : "not-kept" };
    }
    if (begins(words, "mod", "cmd", "UP1", "setvar") && words.length >= 5) {
      this.variables.set(words[4], words.slice(5).join(" "));
      return { name: "kept" };
    }
    if (begins(words, "mod", "cmd", "UP1", "provision") && words.length === 5) {
      this.#options("UP1", new Map([["/provision", words[4]]]));
      return { name: "fast", values: { minutes: words[4] } };
    }
    if (words[0] === "iresetn" && words.length === 1) {
      this.#endWith("iresetn");
      return { name: "restarts" };
    }
    return this.#notUnderstood(words);
  }

  #options(module, options) {
    if (!this.pending.has(module)) this.pending.set(module, new Map());
    for (const [name, value] of options) this.pending.get(module).set(name, value);
  }

  #notUnderstood(words) {
    this.faults.push(words.join(" "));
    return { name: "unknown" };
  }

  /** Do a final command: firmware that was flashed is what a restart is needed for. */
  #endWith(final) {
    const isIfNeeded = FINALS_THAT_RESET_IF_NEEDED.has(final) && this.#needsReset;
    this.#wantsReset ||= FINALS_THAT_RESET.has(final) || isIfNeeded;
  }

  /** Restart: what was not written is gone. */
  #reset() {
    this.#wantsReset = this.#needsReset = false;
    this.pending = copied(this.written);
    this.active = copied(this.written);
  }
}

function begins(words, ...wanted) {
  return wanted.every((word, at) => words[at] === word);
}

/** Read options and their values, URL-decoded; a word before any option stands under "". */
function optionsOf(words) {
  const options = new Map();
  let name = "";
  for (const word of words) {
    if (word.startsWith("/")) {
      name = word;
      options.set(name, "");
    } else {
      options.set(name, stripped(`${options.get(name) ?? ""} ${unquoted(word)}`));
    }
  }
  return options;
}

function copied(configuration) {
  return new Map([...configuration].map(([module, options]) => [module, new Map(options)]));
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

// What Python takes for white space, which is not what JavaScript does.
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const SPACES = new RegExp(SPACE);
const ENDS = new RegExp(`^${SPACE}|${SPACE}$`, "g");

function wordsOf(line) {
  return line.split(SPACES).filter(Boolean);
}

function stripped(text) {
  return text.replace(ENDS, "");
}

/** URL-encode all but letters, digits and `_.-~`. */
function quoted(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** URL-decode; what is no UTF-8 becomes a replacement character, as a phone has to go on. */
function unquoted(text) {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (bytes) =>
    utf8.decode(Uint8Array.from(bytes.slice(1).split("%"), (byte) => parseInt(byte, 16))),
  );
}
