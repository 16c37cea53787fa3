"use strict";
// The explorer of the report and of `spheremap explore`. The data: grid [rows, columns] of patches; pairs, each with
//   source, target: id, uri, width and height in original pixels, and the box [x0, y0, x1, y1] that the patches cover
//   keypoints: name, source, truth, and by method predicted and right: as evaluated; none in `spheremap explore`
// The report's answers are in the data, by `explorer.py`: weights {row: [features, sphere]}, and of each pair
//   best: by row the most similar target patch of every source patch (uint16, base64)
//   features: codes of source and target, direction by direction (int8, zlib, base64), in units of `step`; only for maps
//   points: sphere points of source and target (int16, base64), in units of 1 / 32767
// `spheremap explore` is asked for them at the address `ask`: by row the match and the similarity of all patches (float32, base64).
(async () => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const [rows, columns] = data.grid;
  const patches = rows * columns;
  const POINT_STEP = 1 / 32767;
  const CONTRAST = 3; // power of the share: most patches are somewhat similar, few are very
  const RAMP = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];
  const FAR = 4; // patches of a step with Shift

  const app = document.getElementById("explorer-app");
  const chooser = document.getElementById("explorer-pair"); // if there are several
  const weight = document.getElementById("explorer-weight"); // if there is somebody to ask
  const ticks = [...app.querySelectorAll("input[type=checkbox]")]; // there as well; the report has its own
  const strength = document.getElementById("explorer-strength");
  const status = document.getElementById("explorer-status");
  const list = document.getElementById("explorer-keypoints");
  const source = stageOf(app.querySelector("[data-role=source]"));
  const targets = new Map([...app.querySelectorAll("figure[data-method]")].map((figure) => [figure.dataset.method, stageOf(figure)]));
  const answers = app.querySelector("[data-role=answers]"); // of all methods in one picture, with a list: in the report
  const together = answers && stageOf(answers);
  const items = [...app.querySelectorAll("#explorer-answers li")];
  let current = 0;
  let chosen = { xy: [0, 0], keypoint: null };
  let asking = false;
  let again = false;

  function stageOf(figure) {
    return {
      figure,
      stage: figure.querySelector(".stage"),
      image: figure.querySelector("img"),
      canvas: figure.querySelector("canvas"),
      marks: figure.querySelector("svg"),
      caption: figure.querySelector("[data-role=answer]"),
    };
  }

  const isShown = (element) => getComputedStyle(element).display !== "none";
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const sizeOf = (picture) => Math.max(picture.width, picture.height) / 100;
  const inside = ([x, y], picture) => x >= 0 && y >= 0 && x <= picture.width && y <= picture.height;
  const number = (value) => value.toFixed(2).replace("-", "−");
  const whole = ([x, y]) => `${Math.round(x)}, ${Math.round(y)}`;
  const bytes = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

  function patchOf([x, y], [x0, y0, x1, y1]) {
    const column = clamp(Math.floor(((x - x0) / (x1 - x0)) * columns), 0, columns - 1);
    const row = clamp(Math.floor(((y - y0) / (y1 - y0)) * rows), 0, rows - 1);
    return row * columns + column;
  }

  function centreOf(patch, [x0, y0, x1, y1]) {
    const row = Math.floor(patch / columns);
    return [x0 + (((patch % columns) + 0.5) / columns) * (x1 - x0), y0 + ((row + 0.5) / rows) * (y1 - y0)];
  }

  // ---- answers: by row the match, and the similarity of every target patch

  async function arraysOf(pair) {
    const stream = new Blob([bytes(pair.features)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return {
      best: new Map(Object.entries(pair.best).map(([row, text]) => [row, new Uint16Array(bytes(text).buffer)])),
      features: new Int8Array(await new Response(stream).arrayBuffer()),
      points: pair.points.map((text) => new Int16Array(bytes(text).buffer)),
    };
  }

  function lookUp({ xy, keypoint }) {
    const { step, source: from, target: to, keypoints } = data.pairs[current];
    const { best, features, points } = arrays[current];
    const patch = patchOf(xy, from.box);
    const onFeatures = new Float64Array(patches);
    const onSphere = new Float64Array(patches);
    const half = features.length / 2; // where the target begins
    for (let start = 0; start < half; start += patches) {
      const query = features[start + patch] * step * step;
      if (query === 0) continue;
      for (let i = 0; i < patches; i++) onFeatures[i] += query * features[half + start + i];
    }
    for (let i = 0; i < patches; i++) {
      for (let d = 0; d < 3; d++) onSphere[i] += points[0][patch * 3 + d] * points[1][i * 3 + d] * POINT_STEP * POINT_STEP;
    }
    const found = Object.fromEntries(Object.entries(data.weights).map(([row, [ofFeatures, ofSphere]]) => [row, {
      match: centreOf(best.get(row)[patch], to.box),
      map: onFeatures.map((value, i) => ofFeatures * value + ofSphere * onSphere[i]),
    }]));
    if (keypoint === null) return found;
    for (const [row, match] of Object.entries(keypoints[keypoint].predicted)) found[row] = { ...found[row], match };
    return found;
  }

  async function ask({ xy: [x, y] }) {
    const reply = await fetch(`${data.ask}?${new URLSearchParams({ x, y, weight: weight.value })}`).catch(() => null);
    if (!reply) return { error: "No answer: is spheremap explore still running?" };
    const found = await reply.json();
    if (reply.ok) for (const own of Object.values(found)) own.map = new Float32Array(bytes(own.map).buffer);
    return found;
  }

  // ---- drawing

  function colour(share) {
    const place = share * (RAMP.length - 1);
    const i = Math.min(Math.floor(place), RAMP.length - 2);
    return RAMP[i].map((value, channel) => value + (RAMP[i + 1][channel] - value) * (place - i));
  }

  function paint(canvas, values) {
    let low = Infinity;
    let high = -Infinity;
    for (const value of values) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    const context = canvas.getContext("2d");
    const picture = context.createImageData(columns, rows);
    values.forEach((value, i) => {
      const share = high > low ? (value - low) / (high - low) : 0;
      const bright = share ** CONTRAST;
      picture.data.set([...colour(bright), 110 + 120 * bright], 4 * i);
    });
    context.putImageData(picture, 0, 0);
    return [low, high];
  }

  function mark(marks, kind, [x, y], size) {
    const shapes = {
      keypoint: [["circle", { cx: x, cy: y, r: 0.9 * size }]],
      chosen: [["circle", { cx: x, cy: y, r: 2.6 * size }], ["circle", { cx: x, cy: y, r: 0.5 * size }]],
      match: [["path", { d: `M${x - 3 * size} ${y}h${6 * size}M${x} ${y - 3 * size}v${6 * size}` }]],
      truth: [["circle", { cx: x, cy: y, r: 2.6 * size }]],
    };
    // twice: a wide pale line below a narrow coloured one is seen on any picture
    for (const layer of ["halo", "line"]) {
      for (const [name, attributes] of shapes[kind]) {
        const element = document.createElementNS(marks.namespaceURI, name);
        for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
        element.setAttribute("class", `${kind} ${layer}`);
        marks.append(element);
      }
    }
  }

  function marker(marks, item, [x, y], scale) {
    const swatch = item.querySelector("svg");
    const polygon = swatch.querySelector("polygon").cloneNode();
    polygon.style.cssText = swatch.style.cssText; // its colours
    polygon.setAttribute("class", "answer");
    polygon.setAttribute("transform", `translate(${x} ${y}) scale(${scale})`);
    polygon.dataset.method = item.dataset.method;
    marks.append(polygon);
  }

  function showSource() {
    const { source: picture, keypoints } = data.pairs[current];
    source.marks.replaceChildren();
    for (const { source: xy } of keypoints) mark(source.marks, "keypoint", xy, sizeOf(picture));
    mark(source.marks, "chosen", chosen.xy, sizeOf(picture));
    source.caption.textContent = chosen.keypoint === null ? `point ${whole(chosen.xy)}` : keypoints[chosen.keypoint].name;
    [...list.querySelectorAll("button")].forEach((button, i) =>
      button.setAttribute("aria-pressed", String(i === chosen.keypoint)));
  }

  function showTargets(point, found) {
    const { target: picture, keypoints } = data.pairs[current];
    const keypoint = point.keypoint === null ? null : keypoints[point.keypoint];
    const size = sizeOf(picture);
    const near = ([x, y]) => [clamp(x, 0, picture.width), clamp(y, 0, picture.height)];
    const place = (row) => {
      if (!found[row]) return "at keypoints only";
      const verdict = keypoint ? (keypoint.right[row] ? ", right" : ", wrong") : "";
      return `${whole(found[row].match)}${inside(found[row].match, picture) ? "" : " (in the padding)"}${verdict}`;
    };
    for (const [row, { canvas, marks, caption, figure }] of targets) {
      const { match, map } = found[row];
      const [low, high] = paint(canvas, map);
      marks.replaceChildren();
      if (keypoint) mark(marks, "truth", keypoint.truth, size);
      mark(marks, "match", near(match), size);
      caption.textContent = place(row);
      figure.querySelector("[data-role=range]").textContent = `similarity ${number(low)} to ${number(high)}`;
      figure.dataset.match = match.join(" ");
    }
    for (const item of items) item.querySelector("[data-role=answer]").textContent = place(item.dataset.method);
    const shown = [...(together ? items : app.querySelectorAll("figure[data-method]"))].filter(isShown);
    if (together) {
      together.marks.replaceChildren();
      if (keypoint) mark(together.marks, "truth", keypoint.truth, size);
      const matchOf = (item) => near(found[item.dataset.method].match);
      const answered = shown.filter((item) => found[item.dataset.method]);
      for (const item of answered) { // those that find the same place stand in a row, inside the picture
        const same = answered.filter((other) => whole(matchOf(other)) === whole(matchOf(item)));
        const step = Math.min(4 * size, picture.width / same.length);
        const width = (same.length - 1) * step;
        const [x, y] = matchOf(item);
        const first = clamp(x - width / 2, 0, picture.width - width);
        marker(together.marks, item, [first + same.indexOf(item) * step, y], 0.4 * size);
      }
    }
    const said = shown.map(({ dataset: { method } }) => `${method} ${place(method)}`);
    status.textContent = `${keypoint ? keypoint.name : "Point"} at ${whole(point.xy)}: ${said.join("; ")}.`;
  }

  async function show() {
    showSource();
    again = true;
    if (asking) return; // one question at a time; the last wish counts
    asking = true;
    app.setAttribute("aria-busy", "true");
    while (again) {
      again = false;
      const point = chosen;
      const found = data.ask ? await ask(point) : lookUp(point);
      status.classList.toggle("unseen", !found.error); // for the screen reader alone, unless something is wrong
      if (found.error) status.textContent = found.error;
      else showTargets(point, found);
    }
    asking = false;
    app.setAttribute("aria-busy", "false");
  }

  // ---- choosing

  function choose(xy, keypoint = null) {
    chosen = { xy, keypoint };
    show();
  }

  const chooseKeypoint = (i) => choose(data.pairs[current].keypoints[i].source, i);

  function place({ image, canvas, marks }, picture, alternative) {
    image.src = picture.uri;
    image.alt = alternative;
    image.width = picture.width;
    image.height = picture.height;
    marks.setAttribute("viewBox", `0 0 ${picture.width} ${picture.height}`);
    if (canvas) {
      const [x0, y0, x1, y1] = picture.box;
      canvas.style.left = `${(100 * x0) / picture.width}%`;
      canvas.style.top = `${(100 * y0) / picture.height}%`;
      canvas.style.width = `${(100 * (x1 - x0)) / picture.width}%`;
      canvas.style.height = `${(100 * (y1 - y0)) / picture.height}%`;
    }
  }

  function choosePair(i) {
    current = i;
    if (chooser) chooser.value = String(i);
    const pair = data.pairs[i];
    place(source, pair.source, `source ${pair.source.id}`);
    if (together) place(together, pair.target, `target ${pair.target.id}`);
    for (const [row, target] of targets) place(target, pair.target, `target ${pair.target.id}, similarity of ${row}`);
    list.replaceChildren(...pair.keypoints.map(({ name }, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => chooseKeypoint(k));
      return button;
    }));
    if (pair.keypoints.length) chooseKeypoint(0);
    else choose([pair.source.width / 2, pair.source.height / 2]);
  }

  function pointer(event) {
    const { left, top, width, height } = source.stage.getBoundingClientRect();
    const { source: picture, keypoints } = data.pairs[current];
    const xy = [
      clamp((event.clientX - left) / width, 0, 1) * picture.width,
      clamp((event.clientY - top) / height, 0, 1) * picture.height,
    ];
    // a click on the mark of a keypoint is meant for the keypoint
    const near = keypoints.map(({ source: [x, y] }) => Math.hypot(x - xy[0], y - xy[1]));
    const nearest = near.indexOf(Math.min(...near));
    if (near[nearest] < 1.5 * sizeOf(picture)) chooseKeypoint(nearest);
    else choose(xy);
  }

  function move(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const picture = data.pairs[current].source;
    const patch = patchOf(chosen.xy, picture.box);
    for (let far = event.shiftKey ? FAR : 1; far > 0; far--) { // as far as there is picture
      const column = clamp((patch % columns) + far * step[0], 0, columns - 1);
      const row = clamp(Math.floor(patch / columns) + far * step[1], 0, rows - 1);
      const xy = centreOf(row * columns + column, picture.box);
      if (inside(xy, picture)) return choose(xy);
    }
  }

  function fade() {
    for (const { canvas } of targets.values()) canvas.style.opacity = strength.value;
  }

  function weigh() {
    weight.parentElement.querySelector("output").textContent = Number(weight.value).toFixed(2);
  }

  source.stage.addEventListener("click", pointer);
  source.stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" && event.buttons === 1) pointer(event);
  });
  source.stage.addEventListener("keydown", move);
  strength.addEventListener("input", fade);
  chooser?.addEventListener("change", () => choosePair(Number(chooser.value)));
  weight?.addEventListener("input", () => { weigh(); show(); });
  for (const tick of ticks) {
    tick.addEventListener("change", () => {
      targets.get(tick.value).figure.hidden = !tick.checked;
      show();
    });
  }
  for (const link of document.querySelectorAll("a[data-explore]")) {
    link.addEventListener("click", () => choosePair(Number(link.dataset.explore)));
  }

  for (const { canvas } of targets.values()) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const arrays = data.ask ? [] : await Promise.all(data.pairs.map(arraysOf));
  if (weight) weigh();
  fade(); // browsers keep sliders where they were when a page is loaded again
  document.getElementById("methods")?.addEventListener("change", show);
  app.hidden = false;
  document.getElementById("explorer-absent").hidden = true;
  choosePair(0);
})();
