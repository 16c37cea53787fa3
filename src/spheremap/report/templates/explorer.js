"use strict";
// The data, by `explorer.py`: grid [rows, columns] of patches; weights {row: [features, sphere]}; pairs, each with
//   source, target: uri, width and height in original pixels, and the box [x0, y0, x1, y1] that the patches cover
//   keypoints: name, source, truth, and by row predicted and right: as evaluated
//   best: by row the most similar target patch of every source patch (uint16, base64)
//   features: codes of source and target, direction by direction (int8, zlib, base64), in units of `step`; only for maps
//   points: sphere points of source and target (int16, base64), in units of 1 / 32767
(async () => {
  const data = JSON.parse(document.getElementById("explorer-data").textContent);
  const [rows, columns] = data.grid;
  const patches = rows * columns;
  const POINT_STEP = 1 / 32767;
  const CONTRAST = 3; // power of the share: most patches are somewhat similar, few are very
  const RAMP = [[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]];

  const app = document.getElementById("explorer-app");
  const chooser = document.getElementById("explorer-pair");
  const status = document.getElementById("explorer-status");
  const list = document.getElementById("explorer-keypoints");
  const source = stageOf(app.querySelector("[data-role=source]"));
  const targets = new Map([...app.querySelectorAll("[data-row]")].map((figure) => [figure.dataset.row, stageOf(figure)]));
  let current = 0;
  let chosen = { xy: [0, 0], keypoint: null };

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

  function bytes(text) {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  }

  async function inflated(text) {
    const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Int8Array(await new Response(stream).arrayBuffer());
  }

  async function arraysOf(pair) {
    return {
      best: new Map(Object.entries(pair.best).map(([row, text]) => [row, new Uint16Array(bytes(text).buffer)])),
      features: await inflated(pair.features),
      points: pair.points.map((text) => new Int16Array(bytes(text).buffer)),
    };
  }

  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  function patchOf([x, y], [x0, y0, x1, y1]) {
    const column = clamp(Math.floor(((x - x0) / (x1 - x0)) * columns), 0, columns - 1);
    const row = clamp(Math.floor(((y - y0) / (y1 - y0)) * rows), 0, rows - 1);
    return row * columns + column;
  }

  function centreOf(patch, [x0, y0, x1, y1]) {
    const row = Math.floor(patch / columns);
    return [x0 + (((patch % columns) + 0.5) / columns) * (x1 - x0), y0 + ((row + 0.5) / rows) * (y1 - y0)];
  }

  function similarities(patch) {
    const { step } = data.pairs[current];
    const { features, points } = arrays[current];
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
    return new Map(Object.entries(data.weights).map(([row, [ofFeatures, ofSphere]]) =>
      [row, onFeatures.map((value, i) => ofFeatures * value + ofSphere * onSphere[i])]));
  }

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
      const strength = share ** CONTRAST;
      picture.data.set([...colour(strength), 110 + 120 * strength], 4 * i);
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

  const sizeOf = (picture) => Math.max(picture.width, picture.height) / 100;
  const inside = ([x, y], picture) => x >= 0 && y >= 0 && x <= picture.width && y <= picture.height;
  const number = (value) => value.toFixed(2).replace("-", "−");
  const whole = ([x, y]) => `${Math.round(x)}, ${Math.round(y)}`;

  function show() {
    const pair = data.pairs[current];
    const keypoint = chosen.keypoint === null ? null : pair.keypoints[chosen.keypoint];
    const patch = patchOf(chosen.xy, pair.source.box);
    source.marks.replaceChildren();
    for (const { source: xy } of pair.keypoints) mark(source.marks, "keypoint", xy, sizeOf(pair.source));
    mark(source.marks, "chosen", chosen.xy, sizeOf(pair.source));
    source.caption.textContent = keypoint ? keypoint.name : `point ${whole(chosen.xy)}`;
    const said = [];
    const maps = similarities(patch);
    for (const [row, { canvas, marks, caption, figure }] of targets) {
      const match = keypoint ? keypoint.predicted[row] : centreOf(arrays[current].best.get(row)[patch], pair.target.box);
      const [low, high] = paint(canvas, maps.get(row));
      marks.replaceChildren();
      if (keypoint) mark(marks, "truth", keypoint.truth, sizeOf(pair.target));
      const shown = [clamp(match[0], 0, pair.target.width), clamp(match[1], 0, pair.target.height)];
      mark(marks, "match", shown, sizeOf(pair.target));
      const verdict = keypoint ? (keypoint.right[row] ? ", right" : ", wrong") : "";
      const place = `${whole(match)}${inside(match, pair.target) ? "" : " (in the padding)"}${verdict}`;
      caption.textContent = place;
      figure.querySelector("[data-role=range]").textContent = `similarity ${number(low)} to ${number(high)}`;
      figure.dataset.match = match.join(" ");
      said.push(`${row} ${place}`);
    }
    status.textContent = `${keypoint ? keypoint.name : "Point"} at ${whole(chosen.xy)}: ${said.join("; ")}.`;
    [...list.querySelectorAll("button")].forEach((button, i) =>
      button.setAttribute("aria-pressed", String(i === chosen.keypoint)));
  }

  function chooseKeypoint(i) {
    chosen = { xy: data.pairs[current].keypoints[i].source, keypoint: i };
    show();
  }

  function choosePoint(xy) {
    const { source: picture, keypoints } = data.pairs[current];
    // a click on the mark of a keypoint is meant for the keypoint
    const near = keypoints.map(({ source: [x, y] }) => Math.hypot(x - xy[0], y - xy[1]));
    const nearest = near.indexOf(Math.min(...near));
    if (near[nearest] < 1.5 * sizeOf(picture)) return chooseKeypoint(nearest);
    chosen = { xy, keypoint: null };
    return show();
  }

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
    chooser.value = String(i);
    const pair = data.pairs[i];
    place(source, pair.source, `source ${pair.source.id}`);
    for (const [row, target] of targets) place(target, pair.target, `target ${pair.target.id}, similarity of ${row}`);
    list.replaceChildren(...pair.keypoints.map(({ name }, k) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name;
      button.addEventListener("click", () => chooseKeypoint(k));
      return button;
    }));
    chooseKeypoint(0);
  }

  function pointer(event) {
    const { left, top, width, height } = source.stage.getBoundingClientRect();
    const picture = data.pairs[current].source;
    choosePoint([
      clamp((event.clientX - left) / width, 0, 1) * picture.width,
      clamp((event.clientY - top) / height, 0, 1) * picture.height,
    ]);
  }

  source.stage.addEventListener("click", pointer);
  source.stage.addEventListener("pointermove", (event) => {
    if (event.pointerType === "mouse" && event.buttons === 1) pointer(event);
  });
  source.stage.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const picture = data.pairs[current].source;
    const patch = patchOf(chosen.xy, picture.box);
    const column = clamp((patch % columns) + step[0], 0, columns - 1);
    const row = clamp(Math.floor(patch / columns) + step[1], 0, rows - 1);
    const xy = centreOf(row * columns + column, picture.box);
    if (!inside(xy, picture)) return;
    chosen = { xy, keypoint: null };
    show();
  });
  chooser.addEventListener("change", () => choosePair(Number(chooser.value)));
  for (const link of document.querySelectorAll("a[data-explore]")) {
    link.addEventListener("click", () => choosePair(Number(link.dataset.explore)));
  }

  for (const { canvas } of targets.values()) {
    canvas.width = columns;
    canvas.height = rows;
  }
  const arrays = await Promise.all(data.pairs.map(arraysOf));
  app.hidden = false;
  document.getElementById("explorer-absent").hidden = true;
  choosePair(0);
})();
