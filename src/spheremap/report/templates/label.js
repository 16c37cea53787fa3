"use strict";
// The page of `spheremap label`. The data:
//   photographs: name (path in the folder), width and height in px, in the order shown
//   labels: by name category, instance, azimuth, split, box and points, as `spheremap.data.labels.Label`
//   names: of keypoints, by category; begin: with which a new category begins
// Every step is sent to the address `save`: the photograph's label, and all names. A label is never changed in place.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { photographs, labels, begin } = data;
  const bare = (object) => Object.assign(Object.create(null), object); // where names are keys: it has no "constructor" of its own
  for (const label of Object.values(labels)) label.points = bare(label.points);
  let names = bare(data.names);
  const SPLITS = ["train", "val", "test"];
  const TURN = 45; // degrees between viewpoints
  const NEAR = 12; // px of the screen: so near a mark, a click is meant for it
  const SHORTEST = 5; // px of the screen, side of a box
  const FAR = 10; // px of the screen, a step with Shift

  const $ = (id) => document.getElementById(id);
  const stage = $("stage");
  const image = stage.querySelector("img");
  const marks = stage.querySelector("svg");
  const radios = [...$("compass").querySelectorAll("input")];
  const undone = []; // steps that can be undone: photograph, the label and names before, and what the step was
  const unsaved = new Set();
  let current = 0;
  let chosen = 0; // of the category's keypoints
  let category = Object.keys(names)[0] ?? ""; // of photographs without a label
  let drawing = false; // a box is wanted
  let drag = null; // keypoint or corner that the pointer holds
  let saving = false;

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const tenth = (value) => Math.round(value * 10) / 10;
  const photograph = () => photographs[current];
  const label = () => labels[photograph().name] ?? { category, instance: "", azimuth: null, split: null, box: null, points: bare({}) };
  const keypoints = (own = label()) => names[own.category] ?? [];
  const viewpoint = ({ azimuth }) => azimuth === null ? null : ((Math.round(azimuth / TURN) % 8) + 8) % 8;
  const unit = () => photograph().width / stage.clientWidth; // px of the photograph in one of the screen

  // what a photograph lacks; null if it has no label
  function missing(name) {
    const own = labels[name];
    if (!own) return null;
    return [...keypoints(own).filter((key) => !(key in own.points)), ...(own.azimuth === null ? ["the viewpoint"] : [])];
  }

  // ---- steps

  // `what` is given where steps of the same kind are undone together
  function step(changes, what = null) {
    const { name } = photograph();
    const last = undone.at(-1);
    if (!what || last?.what !== what || last.name !== name) undone.push({ name, label: labels[name], names, what });
    names = bare(changes.names ?? names);
    if (changes.label) {
      labels[name] = { ...label(), ...changes.label };
      labels[name].points = bare(labels[name].points);
      category = labels[name].category;
    }
    save(name);
    show();
  }

  function undo() {
    const last = undone.pop();
    if (!last) return;
    names = last.names;
    if (last.label) labels[last.name] = last.label;
    else delete labels[last.name];
    if (!(category in names)) category = Object.keys(names)[0] ?? "";
    save(last.name);
    if (last.name === photograph().name) show();
    else go(photographs.findIndex(({ name }) => name === last.name));
  }

  // one at a time; what could not be saved goes along with the next step
  async function save(name) {
    unsaved.add(name);
    if (saving) return;
    saving = true;
    $("app").setAttribute("aria-busy", "true");
    let problem = null;
    while (unsaved.size && !problem) {
      const [next] = unsaved;
      const sent = labels[next];
      unsaved.delete(next);
      problem = await send(next, sent);
      if (problem) unsaved.add(next);
    }
    saving = false;
    $("app").setAttribute("aria-busy", "false");
    $("failure").hidden = !problem;
    $("failure").textContent = problem ? `Not saved: ${problem}` : "";
    showAnswers();
  }

  async function send(name, sent) {
    const body = JSON.stringify({ image: name, label: sent ?? null, names });
    const reply = await fetch("save", { method: "POST", headers: { "Content-Type": "application/json" }, body }).catch(() => null);
    if (!reply) return "no answer. Is spheremap label still running? The next step tries again.";
    const answer = await reply.json().catch(() => ({ error: reply.statusText }));
    if (!reply.ok) return answer.error;
    if (sent && labels[name] === sent) labels[name] = { ...sent, split: answer.split };
    return null;
  }

  // ---- keypoints

  // the next one that has no answer yet
  function advance() {
    const { points } = label();
    const all = keypoints();
    const order = all.map((_, i) => (chosen + 1 + i) % all.length);
    chosen = order.find((i) => !(all[i] in points)) ?? chosen;
  }

  function answer(point) {
    const key = keypoints()[chosen];
    if (!key) return ask();
    step({ label: { points: { ...label().points, [key]: point } } });
    advance();
    show();
  }

  function takeAway() {
    const points = { ...label().points };
    if (!(keypoints()[chosen] in points)) return;
    delete points[keypoints()[chosen]];
    step({ label: { points } });
  }

  // puts the cursor where a name is wanted before anything else can be done
  function ask() {
    (label().category ? $("add-keypoint") : $("add-category")).querySelector("input").focus();
  }

  const within = ([x, y]) => [tenth(clamp(x, 0, photograph().width)), tenth(clamp(y, 0, photograph().height))];

  function nudge(x, y) {
    const key = keypoints()[chosen];
    if (!key) return ask();
    const [oldX, oldY] = label().points[key] ?? [photograph().width / 2, photograph().height / 2];
    const place = within([oldX + x * unit(), oldY + y * unit()]);
    step({ label: { points: { ...label().points, [key]: place } } }, `move ${key}`);
  }

  // ---- pointer: a press places the keypoint, and moves it until it is let go

  function placeOf(event) {
    const { left, top, width } = stage.getBoundingClientRect();
    const scale = photograph().width / width;
    return within([(event.clientX - left) * scale, (event.clientY - top) * scale]);
  }

  function press(event) {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    stage.focus({ preventScroll: true });
    const place = placeOf(event);
    if (!label().category) return ask();
    if (drawing) {
      drag = { corner: place, place };
    } else {
      const { points } = label();
      const distance = (key) => points[key] ? Math.hypot(points[key][0] - place[0], points[key][1] - place[1]) / unit() : Infinity;
      const nearest = keypoints().reduce((best, key) => distance(key) < distance(best) ? key : best, keypoints()[0]);
      const held = distance(nearest) < NEAR;
      if (held) chosen = keypoints().indexOf(nearest);
      const key = keypoints()[chosen];
      if (!key) return ask();
      drag = { key, place: held ? points[key] : place, fresh: !held, moved: false };
    }
    stage.setPointerCapture(event.pointerId);
    show();
  }

  function move(event) {
    if (!drag) return;
    drag.place = placeOf(event);
    drag.moved = true;
    showMarks();
  }

  function release() {
    if (!drag) return;
    const { corner, key, place, fresh, moved } = drag;
    drag = null;
    if (corner) {
      const [x1, x2] = [corner[0], place[0]].sort((a, b) => a - b);
      const [y1, y2] = [corner[1], place[1]].sort((a, b) => a - b);
      if (Math.min(x2 - x1, y2 - y1) < SHORTEST * unit()) return show();
      drawing = false;
      step({ label: { box: [x1, y1, x2, y2] } });
    } else if (fresh) {
      answer(place);
    } else if (moved) {
      step({ label: { points: { ...label().points, [key]: place } } });
    }
  }

  // ---- the other answers

  function turn(number) {
    if (!label().category) return ask();
    step({ label: { azimuth: number === null ? null : number * TURN } });
  }

  function choose(changes) {
    if (!label().category) return ask();
    step({ label: changes });
  }

  function chooseCategory(name) {
    const points = Object.fromEntries(Object.entries(label().points).filter(([key]) => (names[name] ?? []).includes(key)));
    chosen = 0;
    step({ label: { category: name, points, split: null } });
    if (keypoints().length) stage.focus({ preventScroll: true });
    else ask();
  }

  function addCategory(name) {
    if (!/^[\p{L}\p{N}_][\p{L}\p{N}_+.-]*$/u.test(name)) return "Letters, digits, _, +, . and -, no spaces.";
    if (!(name in names)) names = bare({ ...names, [name]: begin });
    chooseCategory(name);
    return "";
  }

  function addKeypoint(name) {
    const own = label().category;
    if (!own) return "Name the category first.";
    if (names[own].includes(name)) return "It is there already.";
    step({ names: { ...names, [own]: [...names[own], name] } });
    return "";
  }

  function go(number) {
    current = clamp(number, 0, photographs.length - 1);
    drag = null;
    drawing = false;
    image.src = `photograph?number=${current}`;
    image.alt = photograph().name;
    image.width = photograph().width;
    image.height = photograph().height;
    stage.style.setProperty("--aspect", image.width / image.height);
    marks.setAttribute("viewBox", `0 0 ${photograph().width} ${photograph().height}`);
    const first = keypoints().findIndex((key) => !(key in label().points));
    chosen = Math.max(first, 0);
    show();
  }

  // ---- drawing

  function element(kind, name, attributes, text = "") {
    const made = document.createElementNS(marks.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.setAttribute("class", kind);
    made.textContent = text;
    marks.append(made);
  }

  function showMarks() {
    marks.replaceChildren();
    const { box, points } = label();
    const size = unit();
    const sides = drag?.corner ? [...drag.corner, ...drag.place] : box;
    if (sides) {
      const [x, y] = [Math.min(sides[0], sides[2]), Math.min(sides[1], sides[3])];
      const rectangle = { x, y, width: Math.abs(sides[2] - sides[0]), height: Math.abs(sides[3] - sides[1]) };
      for (const layer of ["halo", "line"]) element(`box ${layer}`, "rect", rectangle);
    }
    keypoints().forEach((key, i) => {
      const place = drag?.key === key ? drag.place : points[key];
      if (!place) return;
      const [cx, cy] = place;
      for (const layer of ["halo", "line"]) {
        element(`place ${layer}`, "circle", { cx, cy, r: 4 * size });
        if (i === chosen) element(`chosen ${layer}`, "circle", { cx, cy, r: 10 * size });
      }
      element("number", "text", { x: cx + 8 * size, y: cy - 6 * size, "font-size": 14 * size }, String(i + 1));
    });
  }

  function buttonOf(text, value, action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.value = value;
    button.addEventListener("click", action);
    return button;
  }

  function options(select, values, value) {
    select.replaceChildren(...values.map((text) => new Option(text, text, false, text === value)));
    select.disabled = values.length === 0;
  }

  function hint() {
    const own = label();
    const key = keypoints()[chosen];
    if (!own.category) return "Name the category first: what kind of thing do the photographs show?";
    if (drawing) return "Draw the box: from one corner of the object to the opposite one.";
    if (!key) return "Add the names of the keypoints: places that every object of the category has.";
    const rest = missing(photograph().name);
    if (rest && !rest.length) return "This photograph is done: on to the next.";
    if (!(key in own.points)) return `Click where ${key} is, or say that it is not visible.`;
    return `Still missing: ${rest.join(", ")}.`;
  }

  function showAnswers() {
    const own = label();
    const all = keypoints();
    $("hint").textContent = hint();
    options($("category"), Object.keys(names).sort(), own.category);
    const list = $("keypoints");
    if ([...list.children].map((button) => button.value).join("\n") !== all.join("\n")) {
      list.replaceChildren(...all.map((key, i) => buttonOf(`${i + 1} ${key}`, key, () => { chosen = i; show(); })));
    }
    all.forEach((key, i) => {
      const button = list.children[i];
      button.className = !(key in own.points) ? "" : own.points[key] ? "placed" : "not-visible";
      button.title = { "": "not labelled yet", placed: "placed", "not-visible": "not visible" }[button.className];
      button.setAttribute("aria-pressed", String(i === chosen));
    });
    $("hidden").disabled = !all.length;
    $("clear").disabled = !(all[chosen] in own.points);
    $("undo").disabled = !undone.length;
    $("previous").disabled = current === 0;
    $("next").disabled = current === photographs.length - 1;
    radios.forEach((radio, i) => { radio.checked = i === viewpoint(own); });
    $("draw").setAttribute("aria-pressed", String(drawing));
    $("box").textContent = own.box ? `${own.box.map(Math.round).join(", ")} px` : "None drawn: the whole picture, or the box about a mask.";
    options($("split"), own.split && !SPLITS.includes(own.split) ? [...SPLITS, own.split] : SPLITS, own.split);
    if (!own.split) $("split").selectedIndex = -1;
    if (document.activeElement !== $("instance")) $("instance").value = own.instance;
    const objects = new Set(Object.values(labels).filter((other) => other.category === own.category && other.instance).map((other) => other.instance));
    $("instances").replaceChildren(...[...objects].sort().map((text) => new Option(text)));
    const rest = photographs.map(({ name }) => missing(name));
    const done = rest.filter((own) => own?.length === 0).length;
    $("done").max = photographs.length;
    $("done").value = done;
    $("progress").textContent = `${done} of ${photographs.length} photographs`;
    [...$("photographs").children].forEach((button, i) => {
      const state = rest[i] === null ? "" : rest[i].length ? "begun" : "finished";
      button.className = state;
      button.title = photographs[i].name;
      button.setAttribute("aria-label", `${photographs[i].name}${state && `, ${state}`}`);
      button.setAttribute("aria-current", String(i === current));
    });
  }

  function show() {
    $("name").textContent = photograph().name;
    showMarks();
    showAnswers();
  }

  // ---- keyboard

  const keys = {
    n: () => go(current + 1),
    p: () => go(current - 1),
    z: undo,
    x: () => answer(null),
    backspace: takeAway,
    delete: takeAway,
    b: () => { if (label().category) { drawing = !drawing; show(); } else ask(); },
    w: () => choose({ box: null }),
    s: () => choose({ split: SPLITS[(SPLITS.indexOf(label().split) + 1) % SPLITS.length] }),
    c: () => (Object.keys(names).length ? $("category") : $("add-category").querySelector("input")).focus(),
    k: () => $("add-keypoint").querySelector("input").focus(),
    o: () => $("instance").focus(),
    v: () => (radios.find((radio) => radio.checked) ?? radios[0]).focus(),
    ",": () => { chosen = Math.max(chosen - 1, 0); show(); },
    ".": () => { chosen = clamp(chosen + 1, 0, Math.max(keypoints().length - 1, 0)); show(); },
    escape: () => { drawing = false; drag = null; stage.focus(); show(); },
  };

  function key(event) {
    const typing = event.target.matches("input:not([type=radio]), select");
    const onCompass = event.target.matches("[type=radio]");
    const pressed = event.key.toLowerCase();
    if (event.altKey || event.ctrlKey || event.metaKey || (typing && pressed !== "escape")) return;
    const arrow = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] }[pressed];
    if (/^\d$/.test(pressed)) {
      if (!onCompass) {
        const number = (Number(pressed) + 9) % 10;
        if (number < keypoints().length) chosen = number;
        show();
      } else if (Number(pressed) < radios.length) {
        turn(Number(pressed));
        stage.focus();
      }
    } else if (arrow && event.target === stage) {
      nudge(...arrow.map((part) => part * (event.shiftKey ? FAR : 1)));
    } else if (pressed in keys) {
      keys[pressed]();
    } else {
      return;
    }
    event.preventDefault();
  }

  // ---- wiring

  function adds(form, add) {
    const input = form.querySelector("input");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const problem = add(input.value.trim());
      input.setCustomValidity(problem);
      if (problem) return input.reportValidity();
      input.value = "";
    });
    input.addEventListener("input", () => input.setCustomValidity(""));
  }

  document.addEventListener("keydown", key);
  stage.addEventListener("pointerdown", press);
  stage.addEventListener("pointermove", move);
  stage.addEventListener("pointerup", release);
  stage.addEventListener("pointercancel", () => { drag = null; show(); });
  image.addEventListener("error", () => { $("hint").textContent = "The photograph cannot be read."; });
  new ResizeObserver(showMarks).observe(stage);
  for (const [id, pressed] of [["previous", "p"], ["next", "n"], ["undo", "z"], ["hidden", "x"], ["clear", "delete"], ["draw", "b"], ["whole", "w"]]) {
    $(id).addEventListener("click", keys[pressed]);
  }
  $("unknown").addEventListener("click", () => turn(null));
  radios.forEach((radio, i) => radio.addEventListener("change", () => turn(i)));
  $("category").addEventListener("change", () => chooseCategory($("category").value));
  $("split").addEventListener("change", () => choose({ split: $("split").value }));
  $("instance").addEventListener("change", () => choose({ instance: $("instance").value.trim(), split: null }));
  adds($("add-category"), addCategory);
  adds($("add-keypoint"), addKeypoint);
  addEventListener("beforeunload", (event) => { if (saving || unsaved.size) event.preventDefault(); });

  $("photographs").append(...photographs.map(({ name }, i) => buttonOf(String(i + 1), name, () => go(i))));
  $("app").hidden = false;
  $("absent").hidden = true;
  const first = photographs.findIndex(({ name }) => missing(name)?.length !== 0);
  go(Math.max(first, 0)); // where the work was left
  stage.focus({ preventScroll: true });
  if (!label().category) ask();
})();
